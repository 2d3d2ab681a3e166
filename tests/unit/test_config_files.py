"""The module config_files, run as a program: installation, tests of the new content, comments, secrets."""

import grp
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lib.ansible_runs import ROOT, load_module

files = load_module("plugins/module_utils/anynode/files.py")

GROUP = grp.getgrgid(os.getgid()).gr_name
REJECTS = """/bin/sh -c '! grep bad "$0"' %s"""


def run(*wanted: dict[str, Any], check: bool = False, secret: bool = False) -> dict[str, Any]:
    """Run the module with these files; return its result."""
    key = "secret_files" if secret else "files"
    arguments = {key: [{"group": GROUP, **each} for each in wanted], "_ansible_check_mode": check}
    # As plugins/module_utils is found on a host: as a part of the package ansible.module_utils.
    program = (
        "import sys, ansible.module_utils as utils, runpy\n"
        f"utils.__path__.append({str(ROOT / 'plugins/module_utils')!r})\n"
        "from ansible.module_utils.testing import patch_module_args\n"
        "import json\n"
        "with patch_module_args(json.loads(sys.argv[1])):\n"
        f"    runpy.run_path({str(ROOT / 'plugins/modules/config_files.py')!r}, run_name='__main__')\n"
    )
    command = [sys.executable, "-c", program, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_file_and_its_directory_are_created_and_the_next_run_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.conf"
    wanted = {"dest": str(path), "content": "# a\nb 1\n", "mode": "0640"}
    assert run(wanted)["installed"] == [str(path)]
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("# a\nb 1\n", 0o640)
    assert not run(wanted)["changed"]


def test_a_file_that_differs_in_comments_only_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("# old words\n; more\n\n// last\n  b 1\n")
    path.chmod(0o644)
    before = path.stat().st_ctime_ns
    assert not run({"dest": str(path), "content": "# new words\n  b 1\n"})["changed"]
    assert path.stat().st_ctime_ns == before
    assert run({"dest": str(path), "content": "# new words\n  b 2\n"})["changed"]
    assert path.read_text() == "# new words\n  b 2\n"


def test_other_permissions_are_a_change(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("b 1\n")
    path.chmod(0o666)
    assert run({"dest": str(path), "content": "b 1\n"})["changed"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_rejected_file_stays_and_the_message_names_it_and_the_cause(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("b 1\n")
    result = run({"dest": str(path), "content": "bad 2\n", "test": REJECTS})
    assert result["failed"]
    assert f"{path} was not changed" in result["msg"]
    assert "bad 2" in result["msg"]
    assert path.read_text() == "b 1\n"
    assert run({"dest": str(path), "content": "b 2\n", "test": REJECTS})["changed"]


def test_check_mode_shows_the_difference_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.conf"
    result = run({"dest": str(path), "content": "b 1\n"}, check=True)
    assert (result["changed"], result["diff"][0]["after"]) == (True, "b 1\n")
    assert not path.parent.exists()


def test_the_content_of_a_secret_file_is_not_in_the_result(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    result = run({"dest": str(path), "content": "password hunter2\n", "mode": "0600"}, secret=True)
    assert (result["changed"], path.read_text()) == (True, "password hunter2\n")
    assert result["diff"][0]["prepared"].startswith(str(path))
    assert "hunter2" not in json.dumps(result)


@pytest.mark.parametrize("line", ["#!/bin/sh", "#clear Origins;", "a;b", "/path # a"])
def test_lines_that_only_look_like_comments_are_directives(line: str) -> None:
    assert files.directives(f"# comment\n\n{line}\n") == [line]
