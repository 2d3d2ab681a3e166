"""Names and types of options, compared with the argument specs of all roles."""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode import renamed
from ansible.module_utils.anynode.validation import Hosts, Specs, names, shown
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load


def load_specs(roles_dir: Path) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Return the options of each role's first entry point, and the names of all roles."""
    specs: dict[str, dict[str, Any]] = {}
    roles = set()
    for path in sorted(roles_dir.glob("*/meta/argument_specs.yml")):
        entry_points = yaml_load(path.read_text())["argument_specs"]
        specs |= next(iter(entry_points.values())).get("options", {})
        roles.add(path.parents[1].name)
    return specs, roles


def renamed_errors(hosts: Hosts, tags: Iterable[str]) -> Iterator[str]:
    """Refuse the names of earlier versions; `tags` are those of the command line."""
    for old, new in (renamed.OPTIONS | renamed.EXTRA_VARIABLES).items():
        defined = [host for host, variables in hosts.items() if old in variables]
        if defined:
            yield f"`{old}` (set for {names(defined)}) was renamed: use `{new}`."
    for tag in tags:
        if tag in renamed.TAGS:
            yield f"The tag `{tag}` was renamed: use `--tags {renamed.TAGS[tag]}`."


def name_errors(hosts: Hosts, specs: Specs, roles: Iterable[str]) -> Iterator[str]:
    """Refuse names that begin with a role's name, or resemble an option, but are no option."""
    prefixes = tuple(f"{role}_" for role in roles)
    defined: dict[str, list[str]] = {}
    for host, variables in hosts.items():
        for name in variables:
            if name not in specs and name not in renamed.OPTIONS and not name.startswith("ansible_"):
                defined.setdefault(name, []).append(host)
    for name, seen in sorted(defined.items()):
        is_ours = name.startswith(prefixes)
        # Other names belong to the operator, unless they are nearly an option's.
        close = difflib.get_close_matches(name, specs, n=1, cutoff=0.6 if is_ours else 0.85)
        if is_ours or close:
            hint = f"Did you mean `{close[0]}`?" if close else "roles/*/meta/argument_specs.yml lists all options."
            yield f"`{name}` (set for {names(seen)}) is not an option of any role. {hint}"


def type_errors(hosts: Hosts, specs: Specs) -> Iterator[str]:
    """Compare each defined option with its type and choices. Options with no_log are left to the checks of secrets."""
    results: dict[tuple[str, str], list[str]] = {}
    affected: dict[tuple[str, str], list[str]] = {}
    for host, variables in hosts.items():
        for name in specs.keys() & variables.keys():
            spec, value = specs[name], variables[name]
            if spec.get("no_log"):
                continue
            key = (name, repr(value))
            if key not in results:  # a variable of a group is checked once, not for each of its hosts
                optional = {key: part for key, part in spec.items() if key not in ("required", "default")}
                results[key] = ArgumentSpecValidator({name: optional}).validate({name: value}).error_messages
            if results[key]:
                affected.setdefault(key, []).append(host)
    for (name, _), seen in sorted(affected.items()):
        spec, value = specs[name], hosts[seen[0]][name]
        problem = "; ".join(results[name, repr(value)]).rstrip(".")
        yield (
            f"`{name}` is {shown(value)} (set for {names(seen)}), expected {spec['type']}: {problem}. Correct it:"
            f" {spec['description']}."
        )
