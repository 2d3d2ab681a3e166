#!/usr/bin/python
"""Report the status of a host: free disk space."""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_status
short_description: report the free disk space of a host
description: Read-only.
options:
  paths:
    type: list
    elements: path
    required: true
    description: the file systems of these paths are reported, each once
"""

EXAMPLES = r"""
- name: Query the host
  host_status: {paths: [/srv, /var]}
  register: host
"""

RETURN = r"""
disks:
  description: mount point, and bytes that are free for unprivileged programs and in total
  type: list
  elements: dict
  returned: success
  sample: [{path: /, free: 50000000000, size: 100000000000}]
"""


def mount_point(path: str) -> str:
    """Return the mount point of the file system that contains a path."""
    return next(str(each) for each in (Path(path), *Path(path).parents) if os.path.ismount(each))


def disks(paths: list[str]) -> list[dict[str, str | int]]:
    """Return mount point, free bytes and size in bytes of the file systems of these paths, each once."""
    found: list[dict[str, str | int]] = []
    for path in dict.fromkeys(mount_point(os.path.realpath(path)) for path in paths):
        figures = os.statvfs(path)
        size, free = figures.f_blocks * figures.f_frsize, figures.f_bavail * figures.f_frsize
        found.append({"path": path, "free": free, "size": size})
    return found


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={"paths": {"type": "list", "elements": "path", "required": True}}, supports_check_mode=True
    )
    module.exit_json(changed=False, disks=disks(module.params["paths"]))


if __name__ == "__main__":
    main()
