#!/usr/bin/python
"""Report systemd units that run with an older version of their files."""

import os
from datetime import UTC, datetime

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: unit_outdated
short_description: report systemd units that run with an older version of their files
description:
  - Use it with C(notify), in place of C(notify) on each task that writes a file. A handler is lost if a run is
    interrupted before the handlers' turn, and the next run finds the files in order; this module still reports that
    the unit runs with the older files.
  - A unit that doesn't run is never outdated; C(needs_start) lists it.
options:
  units:
    type: list
    elements: dict
    required: true
    description: the units to check
    suboptions:
      name:
        type: str
        required: true
        description: name of the unit, with its suffix
      paths:
        type: list
        elements: path
        required: true
        description: files that the unit reads; of a symbolic link the link itself counts
      since:
        type: str
        default: ExecMainStartTimestamp
        choices: [ExecMainStartTimestamp, ActiveEnterTimestamp, StateChangeTimestamp]
        description: >-
          property of the unit with the time at which it last read the files; C(StateChangeTimestamp) also counts a
          reload
"""

EXAMPLES = r"""
- name: Check whether sshd uses its configuration
  unit_outdated:
    units:
      - name: ssh.service
        paths: [/etc/ssh/sshd_config.d/00-anynode.conf]
        since: StateChangeTimestamp
  register: ssh
  notify: Reload sshd
"""

RETURN = r"""
outdated:
  description: files that changed after the unit read them, by name of the unit
  type: dict
  returned: success
  sample: {ssh.service: [/etc/ssh/sshd_config.d/00-anynode.conf]}
needs_start:
  description: >-
    units to enable, start or reload: disabled, not running, or changed on disk since systemd loaded them
  type: list
  elements: str
  returned: success
"""

SINCE = ["ExecMainStartTimestamp", "ActiveEnterTimestamp", "StateChangeTimestamp"]


def parse(text: str) -> float:
    """Return the seconds since the epoch of "Sun 2026-11-22 15:12:19.123456 UTC", as systemd prints it."""
    date = text.split(" ", 1)[1]  # the name of the day depends on the locale
    return datetime.strptime(date, "%Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=UTC).timestamp()


def newer(paths: list[str], read: float) -> list[str]:
    """Return the paths that changed after `read`, in seconds since the epoch."""
    # The change time of the inode: a rename sets it, and no program can set it back.
    return [path for path in paths if os.path.lexists(path) and os.lstat(path).st_ctime > read]


def main() -> None:
    """Run as an Ansible module."""
    options = {
        "name": {"type": "str", "required": True},
        "paths": {"type": "list", "elements": "path", "required": True},
        "since": {"type": "str", "default": SINCE[0], "choices": SINCE},
    }
    module = AnsibleModule(
        argument_spec={"units": {"type": "list", "elements": "dict", "options": options, "required": True}},
        supports_check_mode=True,
    )
    units = module.params["units"]
    module.run_command_environ_update = {"LC_ALL": "C"}
    properties = ",".join(["ActiveState", "UnitFileState", "NeedDaemonReload", *SINCE])
    command = ["systemctl", "show", "--timestamp=us+utc", f"--property={properties}", *(unit["name"] for unit in units)]
    blocks = module.run_command(command, check_rc=True)[1].strip().split("\n\n")
    outdated: dict[str, list[str]] = {}
    needs_start = []
    for unit, block in zip(units, blocks, strict=True):
        shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        runs = shown.get("ActiveState") in ("active", "reloading")
        if not (runs and shown.get("UnitFileState") == "enabled" and shown.get("NeedDaemonReload") == "no"):
            needs_start.append(unit["name"])
        since = shown.get(unit["since"])
        if runs and since and (files := newer(unit["paths"], parse(since))):
            outdated.setdefault(unit["name"], []).extend(files)
    module.exit_json(changed=bool(outdated), outdated=outdated, needs_start=sorted(set(needs_start)))


if __name__ == "__main__":
    main()
