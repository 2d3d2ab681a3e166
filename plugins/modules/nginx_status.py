#!/usr/bin/python
"""Report the state of a balancer."""

from typing import Any

from ansible.module_utils.anynode.nginx import NginxError, read_maintenance, read_upstream, run
from ansible.module_utils.anynode.units import UNITS_OPTION, last_message, messages, pending
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: nginx_status
short_description: Report the state of a balancer
description:
  - Reports whether nginx is running, the nodes behind it, the drained nodes and maintenance mode. Changes nothing.
author: Anynode
options:
  units:
    type: list
    elements: dict
    default: []
    description: units with the files that they read, as of the module unit_outdated
    suboptions:
      name: {type: str, required: true, description: name of the unit}
      paths: {type: list, elements: path, required: true, description: files that the unit reads}
      since:
        type: str
        default: ExecMainStartTimestamp
        choices: [ExecMainStartTimestamp, ActiveEnterTimestamp, StateChangeTimestamp]
        description: property of the unit with the time at which it last read the files
"""

EXAMPLES = r"""
- name: Query the balancer
  nginx_status:
  register: result
"""

RETURN = r"""
state: {type: str, returned: success, description: "C(running) or C(stopped)"}
reason:
  type: str
  returned: success
  description: state of the unit if nginx is stopped, and the last message of a failure; else empty
nodes: {type: list, elements: str, returned: success, description: Names of all nodes}
drained: {type: dict, returned: success, description: Reason by name of each drained node}
maintenance: {type: dict, returned: success, description: Reason of maintenance mode; null if it is off}
pending: {type: list, elements: str, returned: success, description: Files that changed after their unit had read them}
"""

ERROR_LOG = "/var/log/nginx/error.log"


def query() -> dict[str, Any]:
    """Return the state of the balancer, as RETURN describes it. Raises NginxError if a state file is invalid."""
    _status, output = run("systemctl", "show", "--property=ActiveState", "--value", "nginx.service")
    running = output.strip() in ("active", "reloading")
    nodes = read_upstream()["nodes"]
    return {
        "state": "running" if running else "stopped",
        "reason": "" if running else f"nginx.service is {output.strip()}",
        "nodes": sorted(nodes),
        "drained": {name: server["drained"] for name, server in nodes.items() if server["drained"] is not None},
        "maintenance": read_maintenance(),
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={"units": UNITS_OPTION | {"default": []}}, supports_check_mode=True)
    try:
        result = query() | {"pending": pending(module.run_command, module.params["units"])}
    except (NginxError, ValueError) as error:
        module.fail_json(msg=str(error))
    if "failed" in result["reason"]:
        found = messages(module.run_command, "nginx.service", [ERROR_LOG])
        result["reason"] = "; ".join([result["reason"], *last_message(found)])
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
