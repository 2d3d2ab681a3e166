#!/usr/bin/python
"""Start, restart or reload a systemd unit; if that fails, report its last messages."""

import time
from typing import Any

from ansible.module_utils.anynode.units import LOG_OPTIONS, failure, messages
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: unit_state
short_description: start, restart or reload a systemd unit, and report why it fails
description:
  - Loads unit files first. A failure has the last messages of the unit, from the journal and from log files,
    and a remedy if the cause is known; C(ansible.builtin.systemd_service) only names a command that shows them.
options:
  name:
    type: str
    required: true
    description: name of the unit, with its suffix
  state:
    type: str
    choices: [started, restarted, reloaded]
    required: true
    description: C(reloaded) starts a unit that doesn't run
  enabled:
    type: bool
    default: false
    description: also enable the unit at boot
  log_files:
    type: list
    elements: path
    default: []
    description: files to which the unit writes messages, beside the journal
  remedies:
    type: dict
    default: {}
    description: remedies by regular expression that finds their cause in a message
"""

EXAMPLES = r"""
- name: Start Redis
  unit_state:
    name: redis-server.service
    state: started
    enabled: true
    log_files: [/var/log/redis/redis-server.log]
    remedies:
      No space left on device: Free some space on /var.
"""

RETURN = r"""
msg:
  description: the unit, the remedy if it is known, and the last messages of the unit
  type: str
  returned: failure
"""

VERBS = {"started": "start", "restarted": "restart", "reloaded": "reload"}
COMMANDS = VERBS | {"reloaded": "reload-or-restart"}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": list(VERBS), "required": True},
            "enabled": {"type": "bool", "default": False},
            **LOG_OPTIONS,
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C"}
    args: dict[str, Any] = module.params
    name, state = args["name"], args["state"]
    properties = "--property=ActiveState,UnitFileState,NeedDaemonReload"
    lines = module.run_command(["systemctl", "show", properties, name], check_rc=True)[1].splitlines()
    shown = dict(line.split("=", 1) for line in lines)
    enables = args["enabled"] and shown["UnitFileState"] != "enabled"
    acts = state != "started" or shown["ActiveState"] not in ("active", "reloading")
    loads = shown["NeedDaemonReload"] == "yes"
    if not module.check_mode:
        # Before it acts in any case: a unit that systemd hasn't loaded yet doesn't need a reload by its own account,
        # yet systemd 252 looks for its drop-ins in a list of directories that is as old as the last reload.
        if acts or loads:
            module.run_command(["systemctl", "daemon-reload"], check_rc=True)
        if enables:
            module.run_command(["systemctl", "enable", name], check_rc=True)
        since = int(time.time())
        if acts and module.run_command(["systemctl", COMMANDS[state], name])[0]:
            found = messages(module.run_command, name, args["log_files"], since)
            module.fail_json(msg=failure(name, VERBS[state], found, args["remedies"]))
    module.exit_json(changed=enables or loads or acts)


if __name__ == "__main__":
    main()
