"""The argument specs of the roles, and defaults that agree with them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from lib.ansible_runs import ROOT

ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
# The defaults of `topology` are inputs of the other roles.
OTHER_ROLES = [role for role in ROLES if role != "topology"]
TYPES = {"str", "int", "float", "bool", "list", "dict", "path"}
SECRET = re.compile(r"password|secret_key|token")


def load(path: Path) -> dict[str, Any]:
    """Return a YAML file's content, {} if it doesn't exist; of a directory, that of its files together."""
    if path.with_suffix("").is_dir():
        return {key: value for file in path.with_suffix("").glob("*.yml") for key, value in load(file).items()}
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def options(role: str) -> dict[str, dict[str, Any]]:
    specs = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    found: dict[str, dict[str, Any]] = next(iter(specs.values()))["options"]
    return found


def defaults(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "defaults" / "main.yml")


@pytest.mark.parametrize("role", ROLES)
def test_every_option_has_a_type_and_a_description(role: str) -> None:
    for name, option in options(role).items():
        assert option.get("type") in TYPES, name
        assert option.get("description"), name
        assert option["type"] != "list" or "elements" in option, name
        assert name.startswith(f"{role}_"), name


@pytest.mark.parametrize("role", OTHER_ROLES)
def test_defaults_agree_with_the_specs(role: str) -> None:
    stated = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert defaults(role) == stated


@pytest.mark.parametrize("role", OTHER_ROLES)
def test_an_option_is_required_or_has_a_default(role: str) -> None:
    for name, option in options(role).items():
        assert option.get("required", False) != ("default" in option), name


def test_no_play_validates_a_role_again() -> None:
    """preflight validates all options of all hosts once; Ansible would do it for each role on each host.

    Ansible validates an entry point (the task file) only if the role's argument specs have it.
    """

    def validates(role: dict[str, Any]) -> bool:
        specs = load(ROOT / "roles" / role["name"] / "meta" / "argument_specs.yml")["argument_specs"]
        return role.get("tasks_from", "main") in specs

    plays = [*ROOT.glob("playbooks/*.yml"), *ROOT.glob("playbooks/internal/*.yml"), ROOT / "site.yml"]
    found = []
    for path in plays:
        for play in yaml.safe_load(path.read_text()):
            for role in play.get("roles", []):
                name = role if isinstance(role, str) else role["role"]
                tags = [] if isinstance(role, str) else role.get("tags", [])
                if name not in ("topology", "preflight") and tags != ["never"]:
                    found.append((path.name, name))
            for task in _tasks(play):
                for action in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
                    role = task.get(action)
                    if role and (role.get("rolespec_validate") is False) != validates(role):
                        found.append((path.name, role["name"]))
    assert found == []


def _tasks(block: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tasks of a play or a block, those of nested blocks included."""
    found = []
    for key in ("pre_tasks", "tasks", "post_tasks", "block", "rescue", "always"):
        for task in block.get(key, []):
            found += [task, *_tasks(task)]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_secrets_are_never_logged_and_have_no_default(role: str) -> None:
    for name, option in options(role).items():
        if SECRET.search(name):
            assert option.get("no_log") is True, name
            assert "default" not in option, name


def test_the_topology_sets_only_options_of_roles() -> None:
    known = {name for role in ROLES for name in options(role)}
    assert defaults("topology").keys() <= known


def test_the_topology_sets_no_option_that_has_a_default() -> None:
    for role in OTHER_ROLES:
        assert defaults("topology").keys().isdisjoint(defaults(role)), role


def test_every_required_option_is_set_by_the_topology() -> None:
    required = {name for role in ROLES for name, option in options(role).items() if option.get("required")}
    assert required <= defaults("topology").keys()


def test_numbers_and_booleans_may_be_texts() -> None:
    """The command line and INI files have texts: "0" and "no" are true, and "8" > 4 is an error, without a filter."""
    kinds = {name: spec["type"] for role in ROLES for name, spec in options(role).items()}
    files = [*ROOT.glob("roles/**/*.yml"), *ROOT.glob("roles/**/*.j2"), *ROOT.glob("playbooks/**/*.yml")]
    found = []
    for kind, filters in (("bool", "bool"), ("int", "int"), ("float", "float")):
        names = "|".join(name for name in kinds if kinds[name] == kind)
        tested = rf"\b(if|elif|or|not|when:|that:) +({names})\b" + rf"(?! *\| *(default\(.*?\) *\| *)?{filters}\b)"
        computed = rf"\b({names}) *[-+*/<>=!]|[-+*/<>=!] *({names})\b(?! *\| *{filters})"
        for path in files:
            if "argument_specs" not in path.name:
                lines = [line.partition("# ")[0] for line in path.read_text().splitlines()]
                found += [f"{path}: {line}" for line in lines if re.search(f"{tested}|{computed}", line)]
    assert found == []
