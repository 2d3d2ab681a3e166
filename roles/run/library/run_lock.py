#!/usr/bin/python
"""One run at a time: a lock on the balancer that says who holds it, since when, from where."""

import json
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: run_lock
short_description: take or release the lock of runs that change the cluster
description:
  - The lock is a file that names its holder. Who finds it taken gets the holder's words and changes nothing.
options:
  path: {type: path, default: /var/lib/anynode/run.lock, description: the file}
  state: {type: str, choices: [taken, released, told], required: true, description: C(told) only says who holds it}
  holder: {type: dict, description: "who takes it; C(id) tells runs apart"}
  take_over: {type: str, default: "", description: id of a run whose lock may be taken from it}
"""


def take(path, holder, take_over):
    """Take the lock; return who holds it instead, or None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(holder))
    try:
        while True:
            try:
                os.link(partial, path)  # fails if it is there: of two who try at once, one wins
                return None
            except FileExistsError:
                held = read(path)
                if held.get("id") == holder["id"]:
                    return None
                if held and held.get("id") != take_over:
                    return held
                path.unlink(missing_ok=True)
    finally:
        partial.unlink()


def read(path):
    """Return who holds the lock, {} for nobody."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/lib/anynode/run.lock"},
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
        module.exit_json(changed=False, held_by=take(path, args["holder"], args["take_over"]))
    if read(path).get("id") == args["holder"]["id"]:
        path.unlink(missing_ok=True)
    module.exit_json(changed=False, held_by=None)


if __name__ == "__main__":
    main()
