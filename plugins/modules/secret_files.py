#!/usr/bin/python
"""Replaces secrets that are kept in files, step by step, while the old ones are in use."""

import os
import secrets
import string
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: secret_files
short_description: replace secrets that are kept in files, step by step
description:
  - Beside the file C(NAME), whose value is in use, C(NAME.new) or C(NAME.old) has another one that is good meanwhile.
  - Who is cut off anywhere takes the same steps again, in the same order, and goes on. No third value is made before
    the first one is worth nothing and C(ended) says so.
  - No value is ever returned.
options:
  dir: {type: path, required: true, description: the directory of the files}
  names: {type: list, elements: str, required: true, description: which ones}
  state:
    type: str
    required: true
    choices: [made, taken, forgotten, ended]
    description:
      - C(made) makes C(NAME.new), unless something is left of a replacement that has not ended.
      - C(taken) makes that the one in use, and the one that was in use C(NAME.old).
      - C(forgotten) empties C(NAME.old), which stays as a sign that others may still have to forget it.
      - C(ended) removes it.
"""

ALPHABET = string.ascii_letters + string.digits
LENGTH = 64  # 380 bits


def beside(path):
    """Return the files of the value to come and of the one before."""
    return path.with_name(path.name + ".new"), path.with_name(path.name + ".old")


def write(path, text):
    """Write a file that is for its owner alone, in one rename."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def made(paths):
    """Return what has to be done so that each has a value to come."""
    if any(old.exists() for _, old in map(beside, paths)):
        return []
    new = [beside(path)[0] for path in paths]
    return [lambda each=each: write(each, make()) for each in new if not each.exists()]


def make():
    """Return a new value, as a line."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH)) + "\n"


def taken(paths):
    """Return what has to be done so that the values to come are in use."""

    def take(path, new, old):
        if not old.exists():
            os.link(path, old)
        new.rename(path)

    each = [(path, *beside(path)) for path in paths]
    return [lambda all_three=all_three: take(*all_three) for all_three in each if all_three[1].exists()]


def forgotten(paths):
    """Return what has to be done so that the values before are nowhere here."""
    old = [beside(path)[1] for path in paths]
    return [lambda each=each: write(each, "") for each in old if each.exists() and each.stat().st_size]


def ended(paths):
    """Return what has to be done so that nothing is left of the replacement."""
    old = [beside(path)[1] for path in paths]
    return [each.unlink for each in old if each.exists()]


STATES = {state.__name__: state for state in (made, taken, forgotten, ended)}


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "required": True, "choices": list(STATES)},
        },
        supports_check_mode=True,
    )
    args = module.params
    steps = STATES[args["state"]]([Path(args["dir"]) / name for name in args["names"]])
    if not module.check_mode:
        for step in steps:
            step()
    module.exit_json(changed=bool(steps))


if __name__ == "__main__":
    main()
