"""The lookup that describes the running operation."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lib.ansible_runs import load_module

operation = load_module("plugins/lookup/operation.py")


def test_the_command_has_no_extra_variables() -> None:
    words = ["/usr/bin/python3", "/usr/bin/ansible-playbook", "-e", "a=secret", "site.yml", "--extra-vars=b=secret"]
    assert (
        operation.describe([*words, "-ec=secret", "--extra-vars", "d=secret", "--limit", "app1"])
        == "site.yml --limit app1"
    )


def test_each_operation_has_its_own_id() -> None:
    first, second = operation.operation(), operation.operation()
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{4}", first["id"])
    assert first["id"] != second["id"]
    assert first["by"].endswith(f"@{first['controller']}")


def test_the_process_is_that_of_the_playbook_and_not_of_a_fork(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('operation', {str(Path(operation.__file__))!r})\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    sys.exit(module.playbook_process() != parent)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    assert subprocess.run([sys.executable, script], check=False).returncode == 0


@pytest.fixture
def holder() -> dict[str, str]:
    pid = str(os.getpid())
    return {"boot": operation.boot(), "process": f"{pid} {operation.start_time(pid)}"}


def test_an_operation_has_not_ended_while_its_process_runs(holder: dict[str, str]) -> None:
    assert not operation.has_ended(holder)


def test_a_later_process_with_the_same_number_is_another_one(holder: dict[str, str]) -> None:
    assert operation.has_ended(holder | {"process": holder["process"] + "1"})
    assert operation.has_ended(holder | {"process": "4194305 1"})


def test_an_operation_of_another_controller_is_never_taken_for_ended(holder: dict[str, str]) -> None:
    assert not operation.has_ended(holder | {"boot": "another", "process": "4194305 1"})
