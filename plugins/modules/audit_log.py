#!/usr/bin/python
"""Leaves a line on this machine about the run that changed it."""

import json
from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: audit_log
short_description: a line of JSON in this machine's log of runs
description:
  - Who, from where, when, what, and which release the machine runs now if it runs one. One line a run.
  - Of a run that did not end, the line has C("ended"=false), the time at which it began, and who noted that.
options:
  path: {type: path, default: /var/log/anynode/audit.log, description: the log}
  run: {type: dict, required: true, description: "the run: C(id), C(by), C(controller), C(what), C(since)"}
  deployment: {type: path, required: true, description: the file that names the release; only app nodes have it}
  noted_by: {type: str, description: "who notes it in the place of the run, which did not end"}
"""


def read_release(path):
    """Return the id of the release that this machine runs, or None."""
    try:
        return json.loads(path.read_text())["release"]
    except (OSError, ValueError, KeyError):
        return None


def note(path, run, release, noted_by=None):
    """Append the line, unless this run has one; `noted_by` another one if it did not end."""
    line = {
        "time": run["since"] if noted_by else datetime.now(UTC).isoformat(timespec="seconds"),
        "by": run["by"],
        "from": run["controller"],
        "what": run["what"],
        "run": run["id"],
    }
    if release:
        line["release"] = release
    if noted_by:
        line |= {"ended": False, "noted_by": noted_by}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as log:
        log.seek(0)
        if not any(f'"run": "{run["id"]}"' in each for each in log):
            log.write(json.dumps(line) + "\n")


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/log/anynode/audit.log"},
            "run": {"type": "dict", "required": True},
            "deployment": {"type": "path", "required": True},
            "noted_by": {"type": "str"},
        },
    )
    args = module.params
    note(Path(args["path"]), args["run"], read_release(Path(args["deployment"])), args["noted_by"])
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
