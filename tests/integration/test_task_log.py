"""The callback by which tests against clusters identify tasks, and hold a run at one of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lib.cluster import ROOT, Background

Start = Callable[..., Background]
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.assert: {that: true}
      tags: [first]
    - ansible.builtin.command: touch {0}/done
      changed_when: true
      notify: handler
  handlers:
    - name: handler
      ansible.builtin.debug: {msg: handled}
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the playbook; it is killed at the end of the test."""
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(PLAYBOOK.replace("{0}", str(tmp_path)))
    started: list[Background] = []

    def start(hold_at: str = "") -> Background:
        command = ["ansible-playbook", "-i", "localhost,", "-c", "local", str(playbook)]
        started.append(Background(tmp_path, hold_at, command))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def test_each_task_and_handler_is_recorded(start: Start) -> None:
    """With file, module and tags: names of tasks are for readers."""
    run = start().wait()
    assert run.ok, run.output
    assert [task["module"] for task in run.tasks] == ["assert", "command", "debug"]
    assert run.tasks[0]["tags"] == ["first"]
    assert {Path(task["file"]).name for task in run.tasks} == {"playbook.yml"}
    assert run.changed == {"localhost": 1}
    assert run.roles == set()


def test_a_run_is_held_before_a_task(start: Start, tmp_path: Path) -> None:
    """The task never starts, and killing the run ends it."""
    process = start(hold_at=" command")
    process.wait_until_held(seconds=60)
    time.sleep(0.5)
    process.kill()
    assert not (tmp_path / "done").exists()
    assert [task["held"] for task in process.tasks] == [False, True]


def test_a_run_is_held_before_the_first_task_of_a_file(start: Start, tmp_path: Path) -> None:
    process = start(hold_at=os.path.relpath(tmp_path, ROOT))
    process.wait_until_held(seconds=60)
    assert [task["held"] for task in process.tasks] == [True]


def test_a_run_that_ends_before_the_task_is_an_error(start: Start) -> None:
    with pytest.raises(AssertionError, match="did not reach the task"):
        start(hold_at="roles/nginx command").wait_until_held(seconds=60)


def test_half_a_line_is_not_read(start: Start, tmp_path: Path) -> None:
    """The log may be read while a line is being written."""
    process = start()
    process.wait()
    process.tasks_file.write_text(json.dumps({"held": False}) + '\n{"he')
    assert process.tasks == [{"held": False}]
