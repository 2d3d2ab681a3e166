#!/usr/bin/python
"""Report systemd units that run with an older version of their files."""

from ansible.module_utils.anynode.units import UNITS_OPTION, outdated
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


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={"units": UNITS_OPTION | {"required": True}}, supports_check_mode=True)
    module.run_command_environ_update = {"LC_ALL": "C"}
    try:
        files, needs_start = outdated(module.run_command, module.params["units"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(files), outdated=files, needs_start=needs_start)


if __name__ == "__main__":
    main()
