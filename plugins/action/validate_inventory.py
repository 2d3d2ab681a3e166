"""Refuses an inventory that can't work, before any host is contacted or changed."""

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.plugins.action import ActionBase
from ansible.template import Templar

PLUGINS = Path(__file__).resolve().parents[1]
# Ansible ships module_utils to hosts with modules; plugins on the controller must find them by themselves.
if str(PLUGINS / "module_utils") not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(str(PLUGINS / "module_utils"))

from ansible.module_utils.anynode.validation.groups import SUDO  # noqa: E402 # needs the path above
from ansible.module_utils.anynode.validation.inventory import (  # noqa: E402 # as above
    ANSIBLE_VARIABLES,
    evaluate,
    inventory_errors,
    inventory_warnings,
)
from ansible.module_utils.anynode.validation.options import load_specs  # noqa: E402 # as above
from ansible.module_utils.anynode.validation.secrets import directory_errors, secret_errors  # noqa: E402 # as above

DOCUMENTATION = r"""
module: validate_inventory
short_description: refuse an inventory that can't work
description:
  - Checks groups, addresses, secrets, and each option that the inventory or the command line defines, for each host
    with that host's own variables. Each of them is evaluated once, on the controller; no host is contacted.
  - Role defaults aren't checked; values of the inventory may refer to them.
  - Fails with all errors at once. No message shows a secret.
options:
  secrets: {type: dict, required: true, description: "the table of secrets: length, min_length, characters by name"}
  secrets_dir: {type: path, required: true, description: directory of the secrets that the inventory doesn't define}
"""

EXAMPLES = r"""
- name: Check the inventory
  validate_inventory:
    secrets: "{{ topology_secrets }}"
    secrets_dir: "{{ topology_secrets_dir }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
msg:
  description: each error, with the culprit, the expected value and the remedy
  type: str
  returned: failure
missing_secrets:
  description: the part of C(secrets) that neither the inventory defines nor a file has
  type: dict
  returned: success
"""


class ActionModule(ActionBase):
    """Runs on the controller, with the variables of the play's first host."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `missing_secrets`, or a failed result with all errors."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        table, directory = self._task.args["secrets"], Path(self._task.args["secrets_dir"])
        specs, roles = load_specs(PLUGINS.parent / "roles")
        secret_names = {*table, *(f"{name}_fallbacks" for name in table)}
        options = {name for name, spec in specs.items() if not spec.get("no_log")}

        own = task_vars["hostvars"].raw_get(task_vars["inventory_hostname"])
        defaults = {name: value for name, value in task_vars.items() if name not in own}
        raw = {host: task_vars["hostvars"].raw_get(host) for host in task_vars["groups"]["all"]}
        templars = {host: Templar(loader=self._loader, variables=defaults | raw[host]) for host in raw}
        inventory = {host: (raw[host], templars[host].template) for host in raw}
        hosts, errors = evaluate(inventory, options | secret_names | ANSIBLE_VARIABLES, secret_names)

        stored = {path.name: path.read_text().strip() for path in map(directory.joinpath, table) if path.exists()}
        tags = [*task_vars.get("ansible_run_tags", []), *task_vars.get("ansible_skip_tags", [])]
        demo_user = str(self._templar.template(task_vars.get("app_demo_user", "")))
        errors += inventory_errors(task_vars["groups"], hosts, specs, roles, tags, demo_user)
        own_dirs = {host: f"{variables.get('inventory_dir')}/.secrets" for host, variables in raw.items()}
        errors += directory_errors({host: hosts[host].get("topology_secrets_dir", own_dirs[host]) for host in hosts})
        errors += secret_errors(table, hosts, stored, str(directory))
        if self._play_context.become:
            errors.append(f"`--become` (or `become` in ansible.cfg or the environment) {SUDO}")
        for warning in inventory_warnings(hosts):
            self._display.warning(warning)
        if errors:
            message = "\n- ".join(["This inventory can't work. Nothing was changed.", *errors])
            return result | {"failed": True, "msg": message}
        defined = {name for variables in hosts.values() for name in variables}
        missing = {name: rule for name, rule in table.items() if name not in stored and name not in defined}
        return result | {"missing_secrets": missing}
