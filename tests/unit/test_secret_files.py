"""The files of secrets: created, and replaced step by step, wherever the rotation is interrupted."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from lib.ansible_runs import load_module

module = load_module("plugins/modules/secret_files.py")
secrets_filter = load_module("plugins/filter/secrets.py")
lookup = load_module("plugins/lookup/secret.py")
RULES = {"one": {"length": 64}, "two": {"length": 48}}
STEPS = ("staged", "active", "retired", "finished")
# Changes of a directory: each step may be interrupted before any of them.
CHANGES: tuple[tuple[Any, str], ...] = (
    (os, "link"),
    (Path, "rename"),
    (Path, "unlink"),
    (Path, "mkdir"),
    (os, "replace"),
)


class Interrupted(Exception):
    """The process was killed."""


class Directory:
    """The directory of two secrets, and a rotation that may be interrupted after a number of changes to it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.left: int | None = None
        self.values_created = 0
        for name in RULES:
            module.write(path / name, f"{name} before\n")
        monkeypatch.setattr(module, "random_value", self.random_value)
        for owner, change in CHANGES:
            monkeypatch.setattr(owner, change, self.limited(getattr(owner, change)))

    def random_value(self, length: int) -> str:
        self.values_created += 1
        return f"value {self.values_created}\n"

    def limited(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            if self.left == 0:
                raise Interrupted
            self.left = self.left and self.left - 1
            return function(*arguments, **options)

        return change

    def rotate(self, changes: int | None = None) -> list[list[list[str]]]:
        """Take all steps, but stop after a number of changes; return the accepted values after each step."""
        self.left = changes
        seen = []
        for state in STEPS:
            for step in module.STATES[state](self.path, RULES):
                step()
            seen.append([self.accepted(name) for name in RULES])
        return seen

    def accepted(self, name: str) -> list[str]:
        """Return the accepted values, the value in use first."""
        paths = (self.path / name, *module.staged_and_old(self.path / name))
        texts = [path.read_text().strip() for path in paths if path.exists()]
        return list(dict.fromkeys(filter(None, texts)))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Directory:
    return Directory(tmp_path, monkeypatch)


def test_a_new_value_is_accepted_before_it_is_used_and_the_old_one_after(directory: Directory) -> None:
    staged, active, retired, finished = directory.rotate()
    assert staged == [["one before", "value 1"], ["two before", "value 2"]]
    assert active == [["value 1", "one before"], ["value 2", "two before"]]
    assert retired == finished == [["value 1"], ["value 2"]]
    assert sorted(path.name for path in directory.path.iterdir()) == list(RULES)


def test_a_rotation_has_as_many_changes_as_are_interrupted_below(directory: Directory) -> None:
    directory.rotate(1000)
    assert directory.left == 1000 - 10


@pytest.mark.parametrize("changes", range(10))
def test_an_interrupted_rotation_continues_and_creates_no_third_value(directory: Directory, changes: int) -> None:
    with pytest.raises(Interrupted):
        directory.rotate(changes)
    # preflight would create a file that is missing
    assert all((directory.path / name).exists() for name in RULES)
    seen = {name: directory.accepted(name) for name in RULES}
    directory.rotate()
    for name in RULES:
        (now,) = directory.accepted(name)
        assert now != f"{name} before"
        assert len({f"{name} before", *seen[name], now}) == 2
    assert sorted(path.name for path in directory.path.iterdir()) == list(RULES)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in directory.path.iterdir())


def test_a_finished_rotation_is_followed_by_a_new_one(directory: Directory) -> None:
    directory.rotate()
    directory.rotate()
    assert [directory.accepted(name) for name in RULES] == [["value 3"], ["value 4"]]


def test_values_are_long_and_random() -> None:
    values = {module.random_value(64).strip() for _ in range(100)}
    assert len(values) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9]{64}", value) for value in values)


def create(directory: Path, rules: dict[str, dict[str, Any]]) -> bool:
    """Create missing secrets; return whether any was missing."""
    steps = module.created(directory, rules)
    for step in steps:
        step()
    return bool(steps)


def test_missing_secrets_are_created_and_others_kept(tmp_path: Path) -> None:
    secrets = tmp_path / "inventory" / ".secrets"
    assert create(secrets, {"one": RULES["one"]})
    one = (secrets / "one").read_text()
    assert create(secrets, RULES)
    assert not create(secrets, RULES)
    assert (secrets / "one").read_text() == one
    assert [len((secrets / name).read_text().strip()) for name in RULES] == [64, 48]
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in secrets.iterdir())


def test_a_secret_with_a_former_name_is_kept(tmp_path: Path) -> None:
    new = "nginx_maintenance_bypass_token"
    (tmp_path / module.FORMER_NAMES[new]).write_text("value\n")
    rules = {new: {"length": 40}}
    assert create(tmp_path, rules)
    assert not create(tmp_path, rules)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {new: "value\n"}


def test_secrets_that_the_inventory_defines_are_not_rotated() -> None:
    table = {"one": {"rotated": True}, "two": {"rotated": True}, "three": {"rotated": False}}
    assert secrets_filter.rotated_secrets(table, {"two": None, "other": None}) == {"one": {"rotated": True}}


def test_fallbacks_are_the_staged_and_the_retired_value(tmp_path: Path) -> None:
    path = tmp_path / "one"
    for suffix, text in (("", "now\n"), (".new", "next\n"), (".old", "")):
        (tmp_path / f"one{suffix}").write_text(text)
    assert lookup.fallbacks(path, "now") == ["next"]
    (tmp_path / "one.old").write_text("before\n")
    assert lookup.fallbacks(path, "now") == ["next", "before"]
    assert lookup.fallbacks(path, "of the inventory") == []
    path.unlink()
    assert lookup.fallbacks(path, "now") == []


def test_reading_a_missing_secret_names_the_command_that_creates_it(tmp_path: Path) -> None:
    reader = lookup.LookupModule()
    reader.set_options = lambda **_: None
    reader.get_option = lambda _: None
    with pytest.raises(AnsibleLookupError, match=r"one doesn't exist yet.* ansible-playbook -i hosts\.yml site\.yml"):
        reader.run([str(tmp_path / "one")], {"inventory_file": "hosts.yml"})
    assert list(tmp_path.iterdir()) == []
