"""Prints the text that a play left with set_stats under the name `summary`, as the last output of a run."""

from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: summary
type: aggregate
short_description: print the custom stat `summary` after the recap
description:
  - C(set_stats) with C(data.summary) sets the text.
"""


class CallbackModule(CallbackBase):
    """Prints the custom stat `summary`, if there is one."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "summary"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Print the summary once all plays have ended."""
        text = stats.custom.get("_run", {}).get("summary")
        if text:
            self._display.display(f"\n{text}\n", screen_only=False)
