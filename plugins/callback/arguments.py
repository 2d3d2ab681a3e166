"""Refuses arguments of the command line with which no playbook can work."""

from typing import Any

import ansible.context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: arguments
type: aggregate
short_description: refuse C(--skip-tags always)
description:
  - The tasks with the tag C(always) validate the inventory and acquire the deploy lock. Without them, later tasks would
    change hosts unprotected, or fail because of variables that are undefined.
"""


class CallbackModule(CallbackBase):
    """Ends ansible-playbook before the first play. A task couldn't: it would be skipped, too."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "arguments"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Raise SystemExit, which Ansible passes on, unlike errors of callbacks."""
        if "always" in ansible.context.CLIARGS.get("skip_tags", ()):
            raise SystemExit(
                "--skip-tags always skips the validation of the inventory and the deploy lock. Nothing was changed."
                " Repeat the command without it; --tags selects parts of site.yml."
            )
