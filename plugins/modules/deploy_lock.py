#!/usr/bin/python
"""One run at a time: a lock on the balancer that says who holds it, since when, from where."""

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path

from ansible.module_utils.anynode.files import read_json, write_json
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: deploy_lock
short_description: take or release the lock of runs that change the cluster
description:
  - The lock is a file that names its holder. Who finds it taken gets the holder's words and changes nothing.
  - C(held_by) is who holds it instead, C(taken_from) the run from which it was taken over; null for nobody.
options:
  path: {type: path, default: /var/lib/anynode/deploy.lock, description: the file}
  state: {type: str, choices: [taken, released, told], required: true, description: C(told) only says who holds it}
  holder: {type: dict, description: "who takes it; C(id) tells runs apart"}
  take_over: {type: str, default: "", description: id of a run whose lock may be taken from it}
"""


@contextmanager
def alone(folder):
    """Keep others, who ask for the same, from the directory meanwhile; it is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def take(path, holder, take_over):
    """Take the lock; return who holds it instead, and the run from which it was taken over, each None for nobody."""
    with alone(path.parent):
        held = read(path)
        if held and held["id"] not in (holder["id"], take_over):
            return held, None
        write_json(path, holder)
        return None, held if held and held["id"] != holder["id"] else None


def release(path, holder):
    """Release the lock, unless somebody else has it."""
    with alone(path.parent):
        if read(path).get("id") == holder["id"]:
            path.unlink()


def read(path):
    """Return who holds the lock, {} for nobody."""
    return dict(read_json(path, {}))


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/lib/anynode/deploy.lock"},
            "state": {"type": "str", "choices": ["taken", "released", "told"], "required": True},
            "holder": {"type": "dict"},
            "take_over": {"type": "str", "default": ""},
        },
        required_if=[("state", "taken", ["holder"]), ("state", "released", ["holder"])],
        supports_check_mode=True,
    )
    args = module.params
    path = Path(args["path"])
    if args["state"] == "told" or module.check_mode:
        module.exit_json(changed=False, held_by=read(path) or None)
    if args["state"] == "taken":
        held_by, taken_from = take(path, args["holder"], args["take_over"])
        module.exit_json(changed=False, held_by=held_by, taken_from=taken_from)
    release(path, args["holder"])
    module.exit_json(changed=False, held_by=None)


if __name__ == "__main__":
    main()
