"""Callback for tests: records each task that starts, and can hold a playbook at one of them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_log
type: aggregate
short_description: record the tasks of a playbook run, for tests
description:
  - Appends a line of JSON to the file E(ANYNODE_TASK_LOG) for each task and handler that starts, with its file, module
    and tags.
  - With E(ANYNODE_HOLD_AT) set to C(FILE-PREFIX MODULE), the run stops before the first matching task and waits to be
    killed. The line of that task has C(held) set to true.
  - Prefix or module may be empty. Tests identify tasks by file and module, so names of tasks can change freely.
"""

ROOT = Path(__file__).resolve().parents[3]


class CallbackModule(CallbackBase):
    """Writes the task log."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_log"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Record a task; hold the run if ANYNODE_HOLD_AT names it."""
        log = os.environ.get("ANYNODE_TASK_LOG")
        if not log:
            return
        file = os.path.relpath(task.get_path().rpartition(":")[0], ROOT)
        module = task.action.rpartition(".")[2]
        prefix, _, wanted = os.environ.get("ANYNODE_HOLD_AT", "").partition(" ")
        held = bool(prefix or wanted) and module == (wanted or module) and file.startswith(prefix)
        with Path(log).open("a") as lines:
            lines.write(json.dumps({"file": file, "module": module, "tags": sorted(task.tags), "held": held}) + "\n")
        if held:
            time.sleep(3600)  # callbacks run in the main process, so no task starts meanwhile

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Record a handler."""
        self.v2_playbook_on_task_start(task, False)
