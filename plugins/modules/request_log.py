#!/usr/bin/python
"""Finds the log lines of one request on a host."""

import gzip
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: request_log
short_description: find the log lines of a request in nginx's logs or in the journal of a unit
description:
  - "nginx: the line of the access log with the id, rotated files included, and the lines of the error log about the
    same request. Those carry no id and are identified by process, connection and time."
  - "Unit: the lines of its journal that contain the id."
options:
  request_id: {type: str, required: true, description: the id of the request}
  nginx: {type: path, description: directory of nginx's logs}
  unit: {type: str, description: the unit}
"""

EXAMPLES = r"""
- name: Search the journal of the app
  request_log:
    request_id: 0123456789abcdef0123456789abcdef
    unit: anynode.service
"""

RETURN = r"""
entries:
  type: list
  elements: dict
  returned: always
  description: C(time) in seconds since the epoch, and C(text)
searched: {type: str, returned: always, description: "the searched files, or the journal"}
"""

ERROR = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[\w+\] (\d+)#\d+: \*(\d+) ")

Entry = dict[str, Any]


def log_files(folder: Path, name: str, since: float = 0.0) -> list[Path]:
    """Return the files of a log that may have lines since a time (seconds since the epoch), the newest first."""
    files = [(path.stat().st_mtime, path) for path in folder.glob(f"{name}*")]
    return [path for written, path in sorted(files, reverse=True) if written >= since]


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a log, compressed or not."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", errors="replace") as file:
        yield from file


def find_access(folder: Path, request_id: str) -> dict[str, str] | None:
    """Return the fields of the access log's line about the request, None if there is none."""
    for path in log_files(folder, "access.log"):
        for line in lines(path):
            if request_id in line:
                try:
                    found: dict[str, str] = json.loads(line)
                except ValueError:
                    continue
                if found.get("request_id") == request_id:
                    return found
    return None


def find_errors(folder: Path, access: dict[str, str]) -> list[Entry]:
    """Return the entries of the error log about the request of this line of the access log."""
    end = float(access["at"])
    start = end - float(access["request_time"])
    found = []
    for path in log_files(folder, "error.log", start - 1):
        for line in lines(path):
            error = ERROR.match(line)
            if error and error[2] == access["process"] and error[3] == access["connection"]:
                # in the host's time zone, without fractions of a second
                at = time.mktime(time.strptime(error[1], "%Y/%m/%d %H:%M:%S"))
                if int(start) <= at <= end:
                    found.append({"time": min(max(at, start), end), "text": line.rstrip("\n")})
    return found


def describe(access: dict[str, str]) -> str:
    """Return a line of the access log as a sentence."""
    text = f'{access["client"]} "{access["method"]} {access["uri"]}" {access["status"]}, {access["request_time"]} s'
    if access.get("upstream"):
        text += f"; {access['upstream']} answered {access['upstream_status']} after {access['response_time']} s"
        deployment = access.get("deployment", access.get("run"))  # logs from before version 0.2.0 have "run"
        text += f" ({access.get('node')}, release {access.get('release')}, deployment {deployment})"
    return text


def search_nginx(folder: Path, request_id: str) -> list[Entry]:
    """Return the entries of nginx's logs about the request."""
    access = find_access(folder, request_id)
    if access is None:
        return []
    return [*find_errors(folder, access), {"time": float(access["at"]), "text": describe(access)}]


def search_journal(unit: str, request_id: str) -> list[Entry]:
    """Return the entries of a unit's journal about the request."""
    command = ["journalctl", "--unit", unit, "--grep", request_id, "--case-sensitive", "--output", "json", "--no-pager"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = []
    for line in done.stdout.splitlines():
        entry = json.loads(line)
        text = entry["MESSAGE"]  # a list of bytes if it isn't UTF-8
        text = text if isinstance(text, str) else bytes(text or b"").decode(errors="replace")
        found.append({"time": int(entry["__REALTIME_TIMESTAMP"]) / 1e6, "text": text})
    return found


def main() -> None:
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
    request_id, unit = module.params["request_id"], module.params["unit"]
    if unit:
        entries, searched = search_journal(unit, request_id), f"the journal of {unit}"
    else:
        folder = Path(module.params["nginx"])
        count = len(log_files(folder, "access.log"))
        entries, searched = search_nginx(folder, request_id), f"{folder}/access.log* ({count} files)"
    module.exit_json(changed=False, entries=entries, searched=searched)


if __name__ == "__main__":
    main()
