"""Prints, as the last thing of a run, the text that a play left with set_stats under the name `summary`."""

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: summary
type: aggregate
short_description: print the text left in the custom stat `summary` after the recap
description:
  - C(set_stats) with C(data.summary) leaves a text; it is printed after the recap, where the eye rests.
"""


class CallbackModule(CallbackBase):
    """Shows the custom stat `summary`, if there is one."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "summary"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_stats(self, stats):
        """Print the summary once all plays are over."""
        text = stats.custom.get("_run", {}).get("summary")
        if text:
            self._display.display(f"\n{text}\n", screen_only=False)
