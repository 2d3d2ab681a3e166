#!/usr/bin/python
"""Reports the state of the app on this node and its deployments."""

import subprocess
from pathlib import Path

from ansible.module_utils.anynode.deployments import Deployments, app_units
from ansible.module_utils.anynode.http import Client, HttpError, url_of
from ansible.module_utils.anynode.units import last_message, messages, pending
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_status
short_description: report whether the app on this node is ready, and its active deployment
description:
  - Read-only. Requests C(/readyz) only while systemd reports the service as running, because a request to the socket
    would start a stopped service.
options:
  host:
    description: Address of the app.
    type: str
    required: true
  port:
    description: TCP port of the app.
    type: int
    required: true
  unit:
    description: The systemd service of the app.
    type: str
    required: true
  root:
    description: Directory of the releases and deployments.
    type: path
    required: true
  reads:
    description: Files outside C(root) that the app reads when it starts.
    type: list
    elements: path
    default: []
  timeout:
    description: Seconds to wait for the response.
    type: float
    default: 3
"""

EXAMPLES = r"""
- name: Query the app
  app_status:
    host: 192.0.2.31
    port: 8000
    unit: anynode.service
    root: /srv/anynode
  register: result
"""

RETURN = r"""
status:
  description: >-
    C(state) is C(ready), C(not ready), or C(stopped) if the service isn't running; C(reason) is the reason why the app
    isn't ready, with the last message of a service that failed. C(serving_release) is the release id in the response.
    C(release), C(deployment) and C(since) describe the active deployment; all are empty if there is none. C(pending)
    lists the reasons why the node needs a deployment.
  returned: success
  type: dict
"""


def unit_state(unit: str) -> str:
    """Return systemd's ActiveState of the unit, such as active or failed."""
    command = ["systemctl", "show", "--property=ActiveState", "--value", unit]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def readiness(url: str, timeout: float) -> tuple[str, str, str]:
    """Return (state, reason, release) from the response of /readyz."""
    try:
        response = Client(timeout).request("GET", f"{url}/readyz")
    except HttpError as error:
        return "not ready", str(error), ""
    release = response.headers.get("X-Release", "")
    return ("ready", "", release) if response.status == 200 else ("not ready", response.reason, release)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "unit": {"type": "str", "required": True},
            "root": {"type": "path", "required": True},
            "reads": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "float", "default": 3},
        },
        supports_check_mode=True,
    )
    args = module.params
    systemd = unit_state(args["unit"])
    state, reason, release = "stopped", f"{args['unit']} is {systemd}", ""
    if systemd in ("active", "reloading"):
        state, reason, release = readiness(url_of(args["host"], args["port"]), args["timeout"])
    elif systemd != "inactive":  # an operator stops a unit on purpose; "failed" and "activating" have a cause
        reason = "; ".join([reason, *last_message(messages(module.run_command, args["unit"]))])
    root, name = Path(args["root"]), args["unit"].removesuffix(".service")
    deployments = Deployments(root, pending(module.run_command, app_units(root, name, args["reads"]))).report()
    current = deployments["current"]
    status = {
        "state": state,
        "reason": reason,
        "serving_release": release,
        "release": current.get("release", ""),
        "deployment": current.get("id", ""),
        "since": current.get("started", ""),
        "pending": deployments["outdated"],
    }
    module.exit_json(changed=False, status=status)


if __name__ == "__main__":
    main()
