#!/usr/bin/python
"""Creates secrets that are stored in files, and replaces them step by step while the old values are in use."""

import os
import secrets
import string
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode.files import write_atomically
from ansible.module_utils.anynode.renamed import OPTIONS
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: secret_files
short_description: create secrets in files, replace them step by step
description:
  - During a rotation a second value is accepted beside the value in the file C(NAME), from C(NAME.new) or C(NAME.old).
  - After an interruption, repeat the same steps in the same order. No third value is created until C(finished).
  - Files have mode 0600, and their directory has mode 0700. No value is ever returned.
options:
  dir: {type: path, required: true, description: directory of the files; it is created if it is missing}
  secrets:
    type: dict
    required: true
    description: "the secrets by name, each with the C(length) of a new value: letters and digits"
  state:
    type: str
    required: true
    choices: [created, staged, active, retired, finished]
    description:
      - C(created) creates files that are missing. A file with the name that an earlier version used is renamed instead.
      - C(staged) creates C(NAME.new), unless an earlier rotation has not finished.
      - C(active) makes the staged value the value in use, and keeps the value before as C(NAME.old).
      - C(retired) empties C(NAME.old). The empty file shows that hosts may still accept the old value.
      - C(finished) removes it.
"""

EXAMPLES = r"""
- name: Create missing secrets
  secret_files:
    dir: inventory/production/.secrets
    secrets: {redis_app_password: {length: 48}}
    state: created
  delegate_to: localhost
"""

RETURN = r"""
changed:
  description: whether a file was created, replaced or removed
  type: bool
  returned: always
"""

FORMER_NAMES = {new: old for old, new in OPTIONS.items()}
ALPHABET = string.ascii_letters + string.digits

Step = Callable[[], Any]
Rules = Mapping[str, Mapping[str, Any]]


def staged_and_old(path: Path) -> tuple[Path, Path]:
    """Return the files of the next value and of the previous value."""
    return path.with_name(path.name + ".new"), path.with_name(path.name + ".old")


def write(path: Path, text: str) -> None:
    """Replace a file that only its owner may read."""
    write_atomically(path, text, 0o600)


def random_value(length: int) -> str:
    """Return a new value of `length` letters and digits (6 bits each), and a newline."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length)) + "\n"


def create(path: Path, length: int) -> None:
    """Create or replace a secret."""
    write(path, random_value(length))


def created(directory: Path, rules: Rules) -> list[Step]:
    """Return the steps after which each secret has a value."""
    steps: list[Step] = []
    if not directory.is_dir():
        steps.append(partial(directory.mkdir, mode=0o700, parents=True))
    for name, rule in rules.items():
        path, former = directory / name, directory / FORMER_NAMES.get(name, name)
        if former != path and former.exists() and not path.exists():
            steps.append(partial(former.rename, path))
        elif not path.exists():
            steps.append(partial(create, path, rule["length"]))
    return steps


def staged(directory: Path, rules: Rules) -> list[Step]:
    """Return the steps after which each secret has a next value."""
    files = [(*staged_and_old(directory / name), rule["length"]) for name, rule in rules.items()]
    if any(old.exists() for _, old, _ in files):
        return []
    return [partial(create, new, length) for new, _, length in files if not new.exists()]


def active(directory: Path, rules: Rules) -> list[Step]:
    """Return the steps after which the next values are in use."""

    def activate(path: Path, new: Path, old: Path) -> None:
        if not old.exists():
            os.link(path, old)
        new.rename(path)

    files = [(path, *staged_and_old(path)) for path in map(directory.joinpath, rules)]
    return [partial(activate, *each) for each in files if each[1].exists()]


def retired(directory: Path, rules: Rules) -> list[Step]:
    """Return the steps after which no file has a previous value."""
    old = [staged_and_old(directory / name)[1] for name in rules]
    return [partial(write, path, "") for path in old if path.exists() and path.stat().st_size]


def finished(directory: Path, rules: Rules) -> list[Step]:
    """Return the steps after which nothing is left of the rotation."""
    old = [staged_and_old(directory / name)[1] for name in rules]
    return [path.unlink for path in old if path.exists()]


STATES = {state.__name__: state for state in (created, staged, active, retired, finished)}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "secrets": {"type": "dict", "required": True},
            "state": {"type": "str", "required": True, "choices": list(STATES)},
        },
        supports_check_mode=True,
    )
    args = module.params
    steps = STATES[args["state"]](Path(args["dir"]), args["secrets"])
    if not module.check_mode:
        for step in steps:
            step()
    module.exit_json(changed=bool(steps))


if __name__ == "__main__":
    main()
