"""Decides whether an operation may start, from the disk space and the cluster that each host reported."""

from collections.abc import Mapping, Sequence
from typing import Any

# The register of the module host_status in playbooks/internal/start.yml.
REGISTER = "start_hosts"
MEGABYTE = 10**6


def unreachable_hosts(hostvars: Mapping[str, Any], hosts: Sequence[str]) -> list[str]:
    """Return those of `hosts` that Ansible could not reach when it queried them."""
    return [host for host in hosts if (hostvars[host].get(REGISTER) or {}).get("unreachable")]


def connectivity_errors(
    hostvars: Mapping[str, Any],
    hosts: Sequence[str],
    app_nodes: Sequence[str],
    cluster: Mapping[str, str],
    *,
    skip_unreachable: bool,
    adopt: bool,
    minimum_mb: int,
) -> list[str]:
    """Return a message for each reason not to start.

    hosts: all hosts of the operation. app_nodes: hosts without which the operation can go on. cluster: see
    cluster_errors. adopt: whether hosts of other clusters are accepted. minimum_mb: free disk space that each host
    needs.
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
    if not adopt:
        errors += cluster_errors(hostvars, [host for host in hosts if host not in lost], cluster)
    for host in hosts:
        if host not in lost and (text := disk_error(hostvars[host].get(REGISTER) or {}, minimum_mb)):
            errors.append(f"{host} {text}")
    return errors


def disk_error(result: Mapping[str, Any], minimum_mb: int) -> str:
    """Return the error of one host, "" if every file system has enough free space."""
    if not result.get("disks"):
        return f"can't report its free disk space: {result.get('msg') or 'it reported no file system'}."
    full = {
        disk["path"]: disk["free"] // MEGABYTE
        for disk in result["disks"]
        # of a small file system, such as one for logs alone, a quarter is enough
        if disk["free"] < min(minimum_mb * MEGABYTE, disk["size"] / 4)
    }
    if not full:
        return ""
    found = ", ".join(f"{free} MB on {path}" for path, free in full.items())
    return f"has {found}, and {minimum_mb} MB are needed. Free some space, or set -e room_mb=NUMBER."


def cluster_errors(hostvars: Mapping[str, Any], hosts: Sequence[str], cluster: Mapping[str, str]) -> list[str]:
    """Return a message for each other cluster that some of the hosts belong to.

    cluster: `id` and `inventory` of this inventory. A host without a cluster is a new host.
    """
    others: dict[tuple[str, str], list[str]] = {}
    for host in hosts:
        own = (hostvars[host].get(REGISTER) or {}).get("cluster") or {}
        if own and (own.get("id"), own.get("inventory")) != (cluster["id"], cluster["inventory"]):
            others.setdefault((own.get("id", ""), own.get("inventory", "")), []).append(host)
    return [cluster_error(hostvars, found, *other, cluster) for other, found in others.items()]


def cluster_error(
    hostvars: Mapping[str, Any], found: Sequence[str], identity: str, inventory: str, cluster: Mapping[str, str]
) -> str:
    """Return the message about hosts that belong to another cluster."""
    last = max(
        (hostvars[host][REGISTER].get("last_operation") or {} for host in found), key=lambda line: line.get("time", "")
    )
    by = f", last changed by {last.get('by')} at {last.get('time')}" if last else ""
    belongs = f"{', '.join(found)} belong{'s' * (len(found) == 1)} to the cluster of the inventory `{inventory}`{by}"
    if identity == cluster["id"]:
        reason = f", and this inventory is `{cluster['inventory']}`: was it copied? Correct the addresses."
    else:
        reason = (
            f". The secrets of this inventory, `{cluster['inventory']}`, belong to another cluster, as in a new clone:"
            " get the directory `.secrets` from the operator of these hosts, or correct the addresses."
        )
    return (
        f"{belongs}{reason} To adopt the hosts on purpose, with the secrets and the CA of this inventory and an"
        " interruption of service: the same command with -e adopt_hosts=true."
    )


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"connectivity_errors": connectivity_errors, "unreachable_hosts": unreachable_hosts}
