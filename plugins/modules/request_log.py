#!/usr/bin/python
"""Finds what this machine logged about one request."""

import gzip
import json
import re
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: request_log
short_description: what nginx, or the journal of a unit, has about one request
description:
  - Of nginx, the line of the access log with the id, in rotated files, too, and the lines of the error log about it.
    Those carry no id; the process, the connection and the time tell which they are.
  - Of a unit, the lines of its journal that have the id.
options:
  request_id: {type: str, required: true, description: the id}
  nginx: {type: path, description: directory of nginx's logs}
  unit: {type: str, description: the unit}
"""

ERROR = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[\w+\] (\d+)#\d+: \*(\d+) ")


def log_files(folder, name, since=0.0):
    """Return a log's files that may have lines from `since` on, the newest first."""
    files = [(path.stat().st_mtime, path) for path in folder.glob(f"{name}*")]
    return [path for written, path in sorted(files, reverse=True) if written >= since]


def lines(path):
    """Read a log's lines, packed or not."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", errors="replace") as file:
        yield from file


def find_access(folder, request_id):
    """Return the balancer's line about the request, or None."""
    for path in log_files(folder, "access.log"):
        for line in lines(path):
            if request_id in line:
                try:
                    found = json.loads(line)
                except ValueError:
                    continue
                if found.get("request_id") == request_id:
                    return found
    return None


def find_errors(folder, access):
    """Return the times and texts of the error log's lines about the request that `access` tells of."""
    end = float(access["at"])
    begin = end - float(access["request_time"])
    found = []
    for path in log_files(folder, "error.log", begin - 1):
        for line in lines(path):
            told = ERROR.match(line)
            if told and told[2] == access["process"] and told[3] == access["connection"]:
                # in the machine's own time, without fractions of a second
                at = time.mktime(time.strptime(told[1], "%Y/%m/%d %H:%M:%S"))
                if int(begin) <= at <= end:
                    found.append({"time": min(max(at, begin), end), "text": line.rstrip("\n")})
    return found


def describe(access):
    """Return the balancer's line as people read it."""
    said = f'{access["client"]} "{access["method"]} {access["uri"]}" {access["status"]}, {access["request_time"]} s'
    if access.get("upstream"):
        said += f"; {access['upstream']} answered {access['upstream_status']} after {access['response_time']} s"
        said += f" ({access.get('node')}, release {access.get('release')}, run {access.get('run')})"
    return said


def ask_nginx(folder, request_id):
    """Return what nginx wrote about the request."""
    access = find_access(folder, request_id)
    if access is None:
        return []
    if "at" not in access:  # written before the log had it
        at = time.mktime(time.strptime(access["time"][:19], "%Y-%m-%dT%H:%M:%S"))
        return [{"time": at, "text": describe(access)}]
    return [*find_errors(folder, access), {"time": float(access["at"]), "text": describe(access)}]


def ask_journal(unit, request_id):
    """Return what the unit wrote about the request; text that isn't UTF-8 comes as a list of bytes."""
    command = ["journalctl", "--unit", unit, "--grep", request_id, "--case-sensitive", "--output", "json", "--no-pager"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = []
    for line in done.stdout.splitlines():
        entry = json.loads(line)
        text = entry["MESSAGE"]
        text = text if isinstance(text, str) else bytes(text or b"").decode(errors="replace")
        found.append({"time": int(entry["__REALTIME_TIMESTAMP"]) / 1e6, "text": text})
    return found


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "request_id": {"type": "str", "required": True},
            "nginx": {"type": "path"},
            "unit": {"type": "str"},
        },
        mutually_exclusive=[("nginx", "unit")],
        required_one_of=[("nginx", "unit")],
        supports_check_mode=True,
    )
    args = module.params
    if args["nginx"]:
        folder = Path(args["nginx"])
        count = len(log_files(folder, "access.log"))
        module.exit_json(
            changed=False,
            entries=ask_nginx(folder, args["request_id"]),
            looked=f"{folder}/access.log* ({count} files)",
        )
    module.exit_json(
        changed=False, entries=ask_journal(args["unit"], args["request_id"]), looked=f"the journal of {args['unit']}"
    )


if __name__ == "__main__":
    main()
