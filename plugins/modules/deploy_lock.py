#!/usr/bin/python
"""The deploy lock: a file on a host that names the operation that may change the cluster."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode.files import read_json, write_json
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: deploy_lock
short_description: acquire, release or query the deploy lock
description:
  - The lock is a JSON file that names its holder. While it is held, other operations change nothing.
options:
  path: {type: path, default: /var/lib/anynode/deploy.lock, description: the lock's file}
  state:
    type: str
    choices: [held, released, queried]
    required: true
    description: C(queried) only reports the holder.
  holder: {type: dict, description: "the operation that acquires or releases the lock; its C(id) must be unique"}
  take_over: {type: str, default: "", description: id of an operation from which the lock may be taken}
"""

EXAMPLES = r"""
- name: Acquire the lock
  deploy_lock:
    state: held
    holder: {id: 20261130T120000Z-1a2b, by: ada@desk}

- name: Query the holder
  deploy_lock: {state: queried}
"""

RETURN = r"""
held_by: {type: dict, returned: always, description: "another operation that holds the lock, null if none does"}
taken_from:
  description: the previous holder if the lock was taken over, else null
  type: dict
  returned: with state C(held)
"""

Holder = dict[str, Any]


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a system lock on a directory, which is created if needed, against other processes that do the same."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def acquire(path: Path, holder: Holder, take_over: str) -> tuple[Holder | None, Holder | None]:
    """Acquire the lock.

    Returns (the operation that keeps it, None) if it is held by another one, else (None, the operation from which it
    was taken over or None).
    """
    with exclusive(path.parent):
        held = read(path)
        if held and held["id"] not in (holder["id"], take_over):
            return held, None
        write_json(path, holder)
        return None, held if held and held["id"] != holder["id"] else None


def release(path: Path, holder: Holder) -> None:
    """Release the lock if this operation holds it."""
    with exclusive(path.parent):
        if read(path).get("id") == holder["id"]:
            path.unlink()


def read(path: Path) -> Holder:
    """Return the holder of the lock, {} if there is none."""
    return dict(read_json(path, {}))


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/lib/anynode/deploy.lock"},
            "state": {"type": "str", "choices": ["held", "released", "queried"], "required": True},
            "holder": {"type": "dict"},
            "take_over": {"type": "str", "default": ""},
        },
        required_if=[("state", "held", ["holder"]), ("state", "released", ["holder"])],
        supports_check_mode=True,
    )
    args = module.params
    path = Path(args["path"])
    if args["state"] == "queried" or module.check_mode:
        module.exit_json(changed=False, held_by=read(path) or None, taken_from=None)
    if args["state"] == "held":
        held_by, taken_from = acquire(path, args["holder"], args["take_over"])
        module.exit_json(changed=False, held_by=held_by, taken_from=taken_from)
    release(path, args["holder"])
    module.exit_json(changed=False, held_by=None)


if __name__ == "__main__":
    main()
