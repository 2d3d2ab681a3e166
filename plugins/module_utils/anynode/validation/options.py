"""Names and types of options, compared with the argument specs of all roles."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode import renamed
from ansible.module_utils.anynode.validation import Hosts, Specs, formats, names, shown
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load

BOOLEANS = {"true", "false", "yes", "no", "on", "off", "1", "0"}  # as Jinja's filter bool has them
NUMBERS = {"int": r"-?[0-9]{1,18}", "float": r"[0-9]{1,9}(\.[0-9]{1,9})?"}


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
    """Compare each defined option with its type, choices and format.

    Roles use the values as they are, so what is accepted means the same as the converted value: numbers and booleans
    may be texts, as the command line and INI files have them, lists and dictionaries may not. Secrets and users are
    left to their own checks, which show no value.
    """
    results: dict[tuple[str, str], str | None] = {}
    affected: dict[tuple[str, str], list[str]] = {}
    for host, variables in hosts.items():
        for name in specs.keys() & variables.keys() - {"app_users"}:
            spec, value = specs[name], variables[name]
            if spec.get("no_log"):
                continue
            key = (name, repr(value))
            if key not in results:  # a variable of a group is checked once, not for each of its hosts
                results[key] = expected(name, spec, value)
            if results[key]:
                affected.setdefault(key, []).append(host)
    for (name, _), seen in sorted(affected.items()):
        yield (
            f"`{name}` is {shown(hosts[seen[0]][name])} (set for {names(seen)}), expected"
            f" {results[name, repr(hosts[seen[0]][name])]}. Correct it: {specs[name]['description']}."
        )


def expected(name: str, spec: Mapping[str, Any], value: Any) -> str | None:
    """Return what an option must be, if the value isn't that; None if it is accepted."""
    kind = spec["type"]
    if value is None:
        return f"{_described(name, spec)}, not null; without the line, the default applies"
    if kind in ("list", "dict") and not isinstance(value, list if kind == "list" else dict):
        brackets = "[...]" if kind == "list" else "{...}"
        return f"{_described(name, spec)}; on the command line, -e '{{\"{name}\": {brackets}}}'"
    if kind == "bool":
        return None if not isinstance(value, float) and str(value).lower() in BOOLEANS else _described(name, spec)
    if kind in ("int", "float"):
        return None if _is_number(name, kind, value) else _described(name, spec)
    if kind in ("str", "path"):
        return _unaccepted_text(name, spec, value)
    if kind == "list" and spec.get("elements") == "str":
        element = {**spec, "type": "str"}
        problems = [found for each in value if (found := _unaccepted_text(name, element, each))]
        return f"a list, each element {problems[0]}" if problems else None
    optional = {key: part for key, part in spec.items() if key not in ("required", "default")}
    errors = ArgumentSpecValidator({name: optional}).validate({name: value}).error_messages
    return f"{kind}: {'; '.join(errors).rstrip('.')}" if errors else None


def _unaccepted_text(name: str, spec: Mapping[str, Any], value: Any) -> str | None:
    """Return what a text must be. YAML reads 1.10, 12:30, no and 0x10 as something else, so they need quotes."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return f"{_described(name, spec)}; YAML reads this as {type(value).__name__}: write it in quotes"
    text = str(value)
    if "choices" in spec:
        return None if text in spec["choices"] else _described(name, spec)
    if text == "" and (spec.get("default") == "" or name in formats.MAY_BE_EMPTY):
        return None
    return None if formats.format_of(name, spec["type"]).accepts(text) else _described(name, spec)


def _is_number(name: str, kind: str, value: Any) -> bool:
    if isinstance(value, bool) or not re.fullmatch(NUMBERS[kind], str(value)):
        return False
    if kind == "float":
        return 0 < float(value) <= formats.DAY
    least, most = formats.range_of(name)
    return least <= int(value) <= most


def _described(name: str, spec: Mapping[str, Any]) -> str:
    kind = spec["type"]
    if "choices" in spec:
        return f"one of {', '.join(spec['choices'])}"
    if kind == "int":
        least, most = formats.range_of(name)
        return f"a whole number from {least} to {most}"
    simple = {"bool": "true or false", "float": "a number greater than 0", "dict": "a dictionary", "list": "a list"}
    return simple.get(kind) or formats.format_of(name, kind).expected
