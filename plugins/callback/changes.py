"""Sets the variable `host_changed` of each host that the run has changed so far."""

from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: changes
type: aggregate
short_description: the variable C(host_changed) of hosts that this run has changed
description:
  - Ansible counts changes but doesn't give the counts to plays. A delegated task counts for the host that ran it.
"""


class CallbackModule(CallbackBase):
    """Sets `host_changed` at the first change of a host."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "changes"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Keep the variable manager, which the other events don't carry."""
        self._variables = play.get_variable_manager()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Record a change."""
        if result.is_changed() and "results" not in result.result:  # the items of a loop have events of their own
            host = result.task.delegate_to or result.host.get_name()
            self._variables.set_nonpersistent_facts(host, {"host_changed": True})

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Record a change: a task may have changed the host before it failed."""
        self.v2_runner_on_ok(result)

    v2_runner_item_on_ok = v2_runner_item_on_failed = v2_runner_on_ok
