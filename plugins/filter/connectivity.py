"""Decides whether an operation may start, from the disk space that each host reported."""

from collections.abc import Mapping, Sequence
from typing import Any

# The register of `df --output=avail,target --block-size=1M` in playbooks/internal/start.yml.
REGISTER = "start_disks"


def unreachable_hosts(hostvars: Mapping[str, Any], hosts: Sequence[str]) -> list[str]:
    """Return those of `hosts` that Ansible could not reach when it queried them."""
    return [host for host in hosts if (hostvars[host].get(REGISTER) or {}).get("unreachable")]


def connectivity_errors(
    hostvars: Mapping[str, Any], hosts: Sequence[str], app_nodes: Sequence[str], skip_unreachable: bool, minimum_mb: int
) -> list[str]:
    """Return a message for each reason not to start.

    hosts: all hosts of the operation. app_nodes: hosts without which the operation can go on. minimum_mb: free disk
    space that each host needs.
    """
    lost = unreachable_hosts(hostvars, hosts)
    required = [host for host in lost if host not in app_nodes]
    errors = []
    if required:
        errors.append(f"{', '.join(required)} can't be reached, and no operation can go on without them.")
    elif lost and not skip_unreachable:
        errors.append(
            f"{', '.join(lost)} can't be reached. Repair the connection, or go on without these app nodes:"
            " the same command with -e skip_unreachable=true."
        )
    for host in hosts:
        if host not in lost and (text := disk_error(hostvars[host].get(REGISTER) or {}, minimum_mb)):
            errors.append(f"{host} {text}")
    return errors


def disk_error(result: Mapping[str, Any], minimum_mb: int) -> str:
    """Return the error of one host, "" if every file system has enough free space."""
    lines = [line.split(None, 1) for line in result.get("stdout_lines", [])[1:]]
    if not lines:
        return f"can't report its free disk space: {result.get('stderr') or result.get('msg') or 'df printed nothing'}."
    full = {path: int(free) for free, path in lines if int(free) < minimum_mb}
    if not full:
        return ""
    found = ", ".join(f"{free} MB on {path}" for path, free in full.items())
    return f"has {found}, and {minimum_mb} MB are needed. Free some space, or set -e room_mb=NUMBER."


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"connectivity_errors": connectivity_errors, "unreachable_hosts": unreachable_hosts}
