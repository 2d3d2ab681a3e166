#!/usr/bin/python
"""Install nginx's files and switch maintenance mode."""

from pathlib import Path
from typing import Any

from ansible.module_utils.anynode.files import directives, text_diff
from ansible.module_utils.anynode.nginx import (
    CONFIG,
    STATE,
    File,
    NginxError,
    dump,
    install,
    is_outdated,
    read,
    read_maintenance,
)
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: nginx_config
short_description: Install nginx's files and switch maintenance mode
description:
  - Keeps the reason of maintenance mode in C(/var/lib/anynode/maintenance.json), C(null) if it is off, and renders
    C(/etc/nginx/maintenance.conf) and C(/etc/nginx/maintenance-bypass.conf). Maintenance mode stays as it is unless
    C(maintenance) is set.
  - Installs all files together, and restores all of them if nginx rejects the configuration. Does not reload nginx.
  - Does not replace the sandbox of a unit if only comments differ, since a new file calls for a restart of nginx.
options:
  content: {type: str, description: Text of nginx.conf; default is no change}
  bypass_token: {type: str, description: Clients with this token get past maintenance mode; default is no change}
  maintenance: {type: str, choices: ["on", "off"], description: Switch maintenance mode}
  reason:
    type: dict
    default: {}
    description: "Reason that is stored if maintenance mode was off before: C(by), C(since), C(reason)"
  sandbox: {type: str, description: Text of the drop-in file of nginx.service; default is no change}
author: Anynode
"""

EXAMPLES = r"""
- name: Install nginx.conf
  nginx_config:
    content: "{{ lookup('ansible.builtin.template', 'nginx.conf.j2') }}"
    bypass_token: "{{ nginx_maintenance_bypass_token }}"
    sandbox: "{{ lookup('ansible.builtin.file', 'sandbox.conf') }}"

- name: Enable maintenance mode
  nginx_config:
    maintenance: "on"
    reason: {by: ada@desk, since: "2026-11-22T10:00:00Z", reason: new database}
"""

RETURN = r"""
installed: {type: bool, returned: success, description: Whether nginx is installed}
maintenance: {type: dict, returned: success, description: Reason of maintenance mode; null if it is off}
"""

SANDBOX = Path("/etc/systemd/system/nginx.service.d/anynode.conf")
OBSOLETE = ("upstream-reads.conf", "maintenance-key.conf")  # of the version that had no state files


def render_maintenance(reason: dict[str, Any] | None) -> str:
    """Return the text of maintenance.conf."""
    return (
        f"# Ansible managed: rendered from {STATE}/maintenance.json. To change it: playbooks/maintenance.yml.\n"
        f"map $bypass_valid $in_maintenance {{\n    default {0 if reason is None else 1};\n    1 0;\n}}\n"
    )


def render_bypass(token: str) -> str:
    """Return the text of maintenance-bypass.conf."""
    return (
        "# Ansible managed. Clients get the cookie from /.balancer/bypass/TOKEN.\n"
        f'map $cookie_maintenance_bypass $bypass_valid {{\n    default 0;\n    "{token}" 1;\n}}\n'
        f'map $bypass_token $bypass_token_valid {{\n    default 0;\n    "{token}" 1;\n}}\n'
    )


def apply(
    check_mode: bool,
    content: str | None = None,
    bypass_token: str | None = None,
    maintenance: str | None = None,
    reason: dict[str, Any] | None = None,
    sandbox: str | None = None,
) -> dict[str, Any]:
    """Install the files that differ; return the module's result. Raises NginxError if nginx rejects them."""
    state = read_maintenance()
    if maintenance is not None:
        state = (state or reason or {}) if maintenance == "on" else None
    files = [
        File(STATE / "maintenance.json", dump(state)),
        File(CONFIG / "maintenance.conf", render_maintenance(state)),
    ]
    if bypass_token is not None:
        files.append(File(CONFIG / "maintenance-bypass.conf", render_bypass(bypass_token), 0o600))
    if content is not None:
        files.append(File(CONFIG / "nginx.conf", content))
    if sandbox is not None and directives(sandbox) != directives(read(SANDBOX) or ""):
        files.append(File(SANDBOX, sandbox))
    diff = [
        text_diff(file.path, read(file.path) or "", file.content)
        if file.mode == 0o644
        else text_diff(file.path, "(secret)\n", "(changed)\n")
        for file in files
        if is_outdated(file)
    ]
    if diff and not check_mode:
        install(files)
        if content is not None:
            for name in OBSOLETE:
                (CONFIG / name).unlink(missing_ok=True)
    installed = Path("/usr/sbin/nginx").exists()
    return {"changed": bool(diff), "diff": diff, "maintenance": state, "installed": installed}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "content": {"type": "str"},
            "bypass_token": {"type": "str", "no_log": True},
            "maintenance": {"type": "str", "choices": ["on", "off"]},
            "reason": {"type": "dict", "default": {}},
            "sandbox": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        result = apply(module.check_mode, **module.params)
    except NginxError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
