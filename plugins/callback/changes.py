"""Tells a run, as it goes, which machines it has changed: the variable `host_changed` is true for each of them."""

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: changes
type: aggregate
short_description: the variable C(host_changed) of hosts that this run has changed
description:
  - Ansible itself counts changes, but tells plays nothing of them.
  - A delegated task counts for the machine that it went to.
"""


class CallbackModule(CallbackBase):
    """Sets `host_changed` for a host at the first change."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "changes"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_play_start(self, play):
        """Remember who keeps the variables of hosts."""
        self._variables = play.get_variable_manager()

    def v2_runner_on_ok(self, result):
        """Note a change."""
        if result.is_changed() and "results" not in result.result:  # a loop's items came one by one
            host = result.task.delegate_to or result.host.get_name()
            self._variables.set_nonpersistent_facts(host, {"host_changed": True})

    def v2_runner_on_failed(self, result, ignore_errors=False):
        """Who failed may have changed something before."""
        self.v2_runner_on_ok(result)

    v2_runner_item_on_ok = v2_runner_item_on_failed = v2_runner_on_ok
