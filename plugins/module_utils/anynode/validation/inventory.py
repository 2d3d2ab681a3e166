"""All checks of an inventory but those of secrets."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.anynode.validation import Groups, Hosts, Specs, groups, names, options, values

# Variables of Ansible itself that are checked, beside the options of the roles.
ANSIBLE_VARIABLES = {"ansible_host", "ansible_become", "ansible_become_user", "ansible_connection"}
SECRET_LOOKUP = re.compile(r"\b(lookup|query|q)\(")

Template = Callable[[Any], Any]


def evaluate(
    inventory: Mapping[str, tuple[Mapping[str, Any], Template]], wanted: Collection[str], secret_names: Collection[str]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the variables of each host, and errors. Only the `wanted` ones are evaluated, the others are None.

    inventory: raw variables by host, and the function that evaluates them in the host's context. A secret that is read
    by a lookup is read once for all hosts with the same definition: vaults may be slow, and log each access.
    """
    looked_up: dict[tuple[str, str], Any] = {}
    hosts: dict[str, dict[str, Any]] = {}
    errors: dict[str, list[str]] = {}
    for host, (raw, template) in inventory.items():
        hosts[host] = variables = dict.fromkeys(raw)
        for name in sorted(raw.keys() & wanted):
            text = str(raw[name])
            key = (name, text) if name in secret_names and SECRET_LOOKUP.search(text) else None
            try:
                variables[name] = looked_up[key] if key in looked_up else template(raw[name])
            except AnsibleError as error:
                del variables[name]
                if "ansible_facts" not in text:  # facts aren't gathered yet
                    problem = type(error).__name__ if name in secret_names else str(error)
                    errors.setdefault(f"`{name}` can't be evaluated: {problem}", []).append(host)
                continue
            if key:
                looked_up[key] = variables[name]
    return hosts, [f"{text} (set for {names(seen)}). Correct the definition." for text, seen in errors.items()]


def inventory_errors(
    inventory_groups: Groups, hosts: Hosts, specs: Specs, roles: Iterable[str], tags: Iterable[str], demo_user: str
) -> list[str]:
    """Return messages, each once.

    roles: names of all roles. tags: those of the command line. demo_user: the default of `app_demo_user`.
    """
    if not hosts:
        return ["The inventory lists no host. Is its path right? Put hosts in its groups nginx, redis and app."]
    errors = [*options.renamed_errors(hosts, tags)]
    errors += groups.group_errors(inventory_groups)
    errors += groups.connection_errors(inventory_groups, hosts)
    errors += groups.address_errors(inventory_groups, hosts, specs["local_nodes_subnet"]["default"])
    errors += options.name_errors(hosts, specs, roles)
    errors += options.type_errors(hosts, specs)
    errors += values.thread_errors(inventory_groups, hosts, specs)
    errors += values.value_errors(hosts)
    for variables in hosts.values():
        if "app_users" in variables:
            errors += values.user_errors(variables["app_users"], str(variables.get("app_demo_user", demo_user)))
    return list(dict.fromkeys(errors))


def inventory_warnings(hosts: Hosts) -> list[str]:
    """Return messages about settings that work, but not well; each once."""
    users = [variables["app_users"] for variables in hosts.values() if "app_users" in variables]
    return list(dict.fromkeys(warning for each in users for warning in values.user_warnings(each)))
