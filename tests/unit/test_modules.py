"""Each module of the project is documented, in agreement with the options that it accepts."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from lib.ansible_runs import ROOT, load_module

MODULES = sorted(path.stem for path in ROOT.glob("plugins/modules/*.py"))


class Captured(Exception):
    """Carries the argument spec of a module out of its main function."""


@cache
def ansible_doc() -> dict[str, Any]:
    """Return what ansible-doc shows, by module; the last line of the error for a module that it can't show."""
    program = Path(sys.executable).with_name("ansible-doc")
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"}
    shown: dict[str, Any] = {}
    command: list[str | Path] = [program, "-M", ROOT / "plugins" / "modules", "--json"]
    done = subprocess.run([*command, *MODULES], env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        shown = json.loads(done.stdout)
    else:  # one module is invalid: show each alone
        for name in MODULES:
            done = subprocess.run([*command, name], env=environment, capture_output=True, text=True, check=False)
            shown |= json.loads(done.stdout) if done.returncode == 0 else {name: {"error": done.stderr}}
    return shown


def argument_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Return the options that a module accepts."""
    module = load_module(f"plugins/modules/{name}.py")

    def capture(argument_spec: Mapping[str, Any], **_others: Any) -> NoReturn:
        raise Captured(argument_spec)

    monkeypatch.setattr(module, "AnsibleModule", capture)
    with pytest.raises(Captured) as raised:
        module.main()
    spec: dict[str, dict[str, Any]] = raised.value.args[0]
    return spec


def normalized(options: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return options with the defaults of each field, for a comparison."""
    return {
        name: {
            "type": option.get("type", "str"),
            "required": option.get("required", False),
            "default": option.get("default"),
            "choices": option.get("choices"),
            "elements": option.get("elements"),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_ansible_doc_shows_the_module(name: str) -> None:
    shown = ansible_doc()[name]
    assert "error" not in shown, shown["error"]
    assert shown["doc"]["module"] == name
    assert shown["doc"]["short_description"]
    for option, fields in (shown["doc"].get("options") or {}).items():
        assert fields.get("description"), option


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_tasks_that_use_the_module(name: str) -> None:
    examples = yaml.safe_load(ansible_doc()[name].get("examples") or "[]")
    assert examples, "no EXAMPLES"
    used = [task for task in examples if name in task]
    assert used, f"no task of EXAMPLES uses {name}"
    options = ansible_doc()[name]["doc"].get("options") or {}
    for task in used:
        assert (task[name] or {}).keys() <= options.keys(), task["name"]


@pytest.mark.parametrize("name", MODULES)
def test_the_return_values_are_typed_and_described(name: str) -> None:
    returned = ansible_doc()[name].get("return")
    assert returned, "no RETURN"
    for value, fields in returned.items():
        assert fields.get("type") and fields.get("description"), value


@pytest.mark.parametrize("name", MODULES)
def test_the_documented_options_are_those_that_the_module_accepts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    documented = ansible_doc()[name]["doc"].get("options") or {}
    assert normalized(documented) == normalized(argument_spec(name, monkeypatch))
