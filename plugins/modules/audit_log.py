#!/usr/bin/python
"""The audit log of a host: a line of JSON for each operation that changed it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode.files import read_json
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: audit_log
short_description: append an operation to the audit log of a host
description:
  - A line names the operator, the controller, the time, the command and, on an app node, the active release. Each
    operation has at most one line.
  - The line of an interrupted operation has C("ended"=false), the time of its start, and the operator who recorded it.
options:
  path: {type: path, default: /var/log/anynode/audit.log, description: the log}
  operation:
    type: dict
    required: true
    description: "the operation: C(id), C(by), C(controller), C(what), C(since)"
  deployment: {type: path, required: true, description: file that names the active release; only app nodes have it}
  recorded_by: {type: str, description: "operator who records an interrupted operation"}
"""

EXAMPLES = r"""
- name: Record the operation
  audit_log:
    operation: "{{ deploy_lock_operation }}"
    deployment: /srv/anynode/current/deployment.json
"""

RETURN = r"""
added: {type: bool, returned: always, description: whether a line was added}
"""


def read_release(path: Path) -> str | None:
    """Return the id of the release that is active on this host, None if there is none."""
    found = read_json(path, {})
    return found.get("release") if isinstance(found, dict) else None


def record(path: Path, operation: dict[str, Any], release: str | None, recorded_by: str | None = None) -> bool:
    """Append the operation's line unless the log has it; return whether it was appended.

    recorded_by: set for an interrupted operation, see DOCUMENTATION.
    """
    line = {
        "time": operation["since"] if recorded_by else datetime.now(UTC).isoformat(timespec="seconds"),
        "by": operation["by"],
        "from": operation["controller"],
        "what": operation["what"],
        "id": operation["id"],
    }
    if release:
        line["release"] = release
    if recorded_by:
        line |= {"ended": False, "recorded_by": recorded_by}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as log:
        log.seek(0)
        if any(f'"id": "{operation["id"]}"' in each for each in log):
            return False
        log.write(json.dumps(line) + "\n")
    return True


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/log/anynode/audit.log"},
            "operation": {"type": "dict", "required": True},
            "deployment": {"type": "path", "required": True},
            "recorded_by": {"type": "str"},
        },
    )
    args = module.params
    release = read_release(Path(args["deployment"]))
    # Not a change: otherwise each operation would change the hosts that it only recorded.
    module.exit_json(changed=False, added=record(Path(args["path"]), args["operation"], release, args["recorded_by"]))


if __name__ == "__main__":
    main()
