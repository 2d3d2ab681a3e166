#!/usr/bin/python
"""Tells whether a systemd unit runs with the files as they are now."""

import os
from datetime import UTC, datetime

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: unit_outdated
short_description: report a change if files changed after a systemd unit last read them
description:
  - To be used with C(notify), in place of C(notify) on each task that writes a file. A handler is lost when a run is
    cut off before the handlers' turn, and the next run finds the files in order; this module still sees that the unit
    runs with older ones.
  - A unit that does not run is not outdated; starting it is another task's job.
options:
  unit: {type: str, required: true, description: name of the unit}
  paths: {type: list, elements: path, required: true, description: what the unit reads; a link counts by itself}
  since:
    type: str
    default: ExecMainStartTimestamp
    choices: [ExecMainStartTimestamp, ActiveEnterTimestamp, StateChangeTimestamp]
    description: the unit's property that says when it last read them; C(StateChangeTimestamp) also counts a reload
"""


def parse(text):
    """Return the seconds since the epoch of `Sun 2026-11-22 15:12:19.123456 UTC`, as systemd writes it."""
    date = text.split(" ", 1)[1]  # the name of the day would be read in the node's language
    return datetime.strptime(date, "%Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=UTC).timestamp()


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "paths": {"type": "list", "elements": "path", "required": True},
            "since": {
                "type": "str",
                "default": "ExecMainStartTimestamp",
                "choices": ["ExecMainStartTimestamp", "ActiveEnterTimestamp", "StateChangeTimestamp"],
            },
        },
        supports_check_mode=True,
    )
    unit, since = module.params["unit"], module.params["since"]
    module.run_command_environ_update = {"LC_ALL": "C"}
    command = ["systemctl", "show", "--timestamp=us+utc", f"--property=ActiveState,{since}", unit]
    _rc, output, _err = module.run_command(command, check_rc=True)
    shown = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    if shown.get("ActiveState") not in ("active", "reloading") or not shown.get(since):
        module.exit_json(changed=False, newer=[])
    read = parse(shown[since])
    # The time of the change of the inode: a rename sets it, and nobody sets it back.
    newer = [path for path in module.params["paths"] if os.path.lexists(path) and os.lstat(path).st_ctime > read]
    module.exit_json(changed=bool(newer), newer=newer)


if __name__ == "__main__":
    main()
