#!/usr/bin/python
"""Report the status of a host: free disk space, and the cluster that it belongs to."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ansible.module_utils.anynode.files import read_json
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_status
short_description: report the free disk space of a host, and the cluster that it belongs to
description: Read-only.
options:
  paths:
    type: list
    elements: path
    required: true
    description: the file systems of these paths are reported, each once, and the writable ones below them
"""

EXAMPLES = r"""
- name: Query the host
  host_status: {paths: [/srv, /var]}
  register: host
"""

RETURN = r"""
disks:
  description: >-
    mount point, bytes that are free for unprivileged programs and in total, and the same of inodes; C(inodes) is 0 on
    file systems without a limit
  type: list
  elements: dict
  returned: success
  sample: [{path: /, free: 50000000000, size: 100000000000, free_inodes: 6000000, inodes: 6500000}]
cluster:
  description: C(id) and C(inventory) of the cluster that was deployed on this host; empty if none was
  type: dict
  returned: success
last_operation:
  description: the last line of the audit log, with C(time) and C(by); empty if there is none
  type: dict
  returned: success
"""


CLUSTER = Path("/etc/anynode/cluster.json")
AUDIT_LOG = Path("/var/log/anynode/audit.log")
MOUNTS = Path("/proc/self/mounts")


def mount_points(paths: Sequence[str]) -> list[str]:
    """Return the mount points of the file systems that contain these paths, and of writable ones below them."""
    real = [os.path.realpath(path) for path in paths]
    own = [next(str(each) for each in (Path(path), *Path(path).parents) if os.path.ismount(each)) for path in real]
    fields = [line.split() for line in MOUNTS.read_text().splitlines()]
    writable = [_unescaped(point) for _device, point, _type, options, *_ in fields if "rw" in options.split(",")]
    below = [point for point in writable if any(point.startswith(f"{path}/") for path in real) and Path(point).is_dir()]
    return list(dict.fromkeys(own + sorted(below)))


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def disks(paths: Sequence[str]) -> list[dict[str, str | int]]:
    """Return mount point, and free and all bytes and inodes, of the file systems at and below these paths."""
    found: list[dict[str, str | int]] = []
    for path in mount_points(paths):
        figures = os.statvfs(path)
        unit = figures.f_frsize
        if figures.f_blocks:  # 0: not a file system that stores files
            found.append(
                {
                    "path": path,
                    "free": figures.f_bavail * unit,
                    "size": figures.f_blocks * unit,
                    "free_inodes": figures.f_favail,
                    "inodes": figures.f_files,
                }
            )
    return found


def last_operation(log: Path) -> dict[str, str]:
    """Return the last line of an audit log, {} if there is none."""
    try:
        line = json.loads(log.read_text().splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return {}
    return dict(line) if isinstance(line, dict) else {}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={"paths": {"type": "list", "elements": "path", "required": True}}, supports_check_mode=True
    )
    cluster = read_json(CLUSTER, {})
    module.exit_json(
        changed=False,
        disks=disks(module.params["paths"]),
        cluster=cluster if isinstance(cluster, dict) else {},
        last_operation=last_operation(AUDIT_LOG),
    )


if __name__ == "__main__":
    main()
