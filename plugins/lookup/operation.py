"""Describes the running operation, which is a process of ansible-playbook on this controller."""

import os
import pwd
import re
import secrets
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: operation
short_description: describe the running operation, or report whether others have ended
description:
  - Without terms, returns the operation that runs now; two calls return different ids.
  - With terms, returns for each operation true if its process ran on this controller and has ended. The answer for
    an operation of another controller is false, since its process can't be seen from here.
options:
  _terms: {description: operations, type: list, elements: dict}
"""

EXAMPLES = r"""
- name: Set the operation
  ansible.builtin.set_fact:
    deploy_lock_operation: "{{ lookup('operation') }}"
"""

RETURN = r"""
_raw:
  description: >-
    the operation, with C(id), C(by) (user@controller), C(what) (the command without extra variables), C(since) (UTC),
    C(controller), C(boot) (of the controller) and C(process) (number and start time); or booleans
  type: list
"""

PROC = Path("/proc")
EXTRA_VARIABLES = re.compile(r"-e|--e[a-z-]*")


def command_line(process: int) -> list[str]:
    """Return the arguments of a process, the program included; [] if there is no such process."""
    try:
        return (PROC / str(process) / "cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def parent(process: int) -> int:
    """Return the number of the parent of a process."""
    return int((PROC / str(process) / "stat").read_text().rpartition(")")[2].split()[1])


def start_time(process: str) -> str:
    """Return when a process started, in clock ticks since boot; "" if there is no such process."""
    try:
        return (PROC / process / "stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def boot() -> str:
    """Return an id of this boot and process namespace: controllers may share a name, containers a kernel."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip() + os.readlink(PROC / "self/ns/pid")


def playbook_process() -> int:
    """Return the number of the process of ansible-playbook: workers are forks of it, with the same command line."""
    process = os.getpid()
    while command_line(parent(process)) == command_line(process):
        process = parent(process)
    return process


def describe(arguments: Sequence[str]) -> str:
    """Return a command line without the program and without extra variables, which may hold secrets."""
    words, skip = [], True
    for word in arguments[1:] if arguments[:1] and "python" in arguments[0] else arguments:
        if skip:
            skip = False
        elif EXTRA_VARIABLES.fullmatch(word):
            skip = True
        elif not re.match(r"(-e|--e[a-z-]*=).", word):
            words.append(word)
    return " ".join(words)


def operation() -> dict[str, str]:
    """Return the running operation, see RETURN."""
    process, now = playbook_process(), datetime.now(UTC)
    user = os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name
    return {
        "id": f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        "by": f"{user}@{socket.gethostname()}",
        "what": describe(command_line(process)),
        "since": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "controller": socket.gethostname(),
        "boot": boot(),
        "process": f"{process} {start_time(str(process))}",
    }


def has_ended(holder: dict[str, str]) -> bool:
    """Return whether an operation ran on this controller and its process has ended."""
    process, _, started = holder.get("process", "").partition(" ")
    return holder.get("boot") == boot() and start_time(process) != started


class LookupModule(LookupBase):
    """Ansible's entry point."""

    def run(self, terms: list[dict[str, str]], variables: Any = None, **kwargs: Any) -> list[Any]:
        """Return the running operation, or whether each of `terms` has ended."""
        return [has_ended(each) for each in terms] if terms else [operation()]
