#!/usr/bin/python
"""Says whether the app on this node runs and is ready; changes nothing, and wakes nothing."""

import http.client
import json
import subprocess

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_status
short_description: whether the app on this node runs, and is ready
description:
  - Asks C(/readyz), unless systemd says that the service does not run; the socket that it holds would start it.
options:
  host: {type: str, required: true, description: address of the app}
  port: {type: int, required: true, description: its port}
  unit: {type: str, required: true, description: the service}
  seconds: {type: float, default: 3, description: how long to wait for the answer}
"""


def unit_state(unit):
    """Return systemd's word for what the unit does, such as active or failed."""
    command = ["systemctl", "show", "--property=ActiveState", "--value", unit]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def ask(host, port, seconds):
    """Return (state, why, release), as /readyz says."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", "/readyz", headers={"Accept": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    except TimeoutError:
        return "not ready", f"no answer within {seconds:g} s", ""
    except (OSError, http.client.HTTPException) as error:
        return "not ready", f"no answer ({error})", ""
    finally:
        connection.close()
    release = answer.getheader("X-Release", "")
    if answer.status == 200:
        return "ready", "", release
    try:
        said = json.loads(text)
        why = said.get("status") or said["error"]
    except (ValueError, KeyError, AttributeError):
        why = f"status {answer.status}"
    return "not ready", why, release


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "unit": {"type": "str", "required": True},
            "seconds": {"type": "float", "default": 3},
        },
        supports_check_mode=True,
    )
    args = module.params
    systemd = unit_state(args["unit"])
    state, why, release = "stopped", f"{args['unit']} is {systemd}", ""
    if systemd in ("active", "reloading"):
        state, why, release = ask(args["host"], args["port"], args["seconds"])
    module.exit_json(changed=False, state=state, reason=why, release=release)


if __name__ == "__main__":
    main()
