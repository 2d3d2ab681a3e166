"""The status of the cluster: a report for programs and a table for operators, from the results that the roles register.

Each role has a task (tasks_from: status) that registers the result of a module: common_status, certificates_status,
nginx_status, redis_status, app_status, deploy_lock_status. This file reads no other variable.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Report = dict[str, Any]

GROUPS = ("nginx", "redis", "app")
RESULTS = [f"{role}_status" for role in ("common", "certificates", "deploy_lock", *GROUPS)]
GIGABYTE = 10**9
MINIMUM_FREE_BYTES = GIGABYTE
MINIMUM_FREE_SHARE = 0.1
FULL_BYTES = 16 * 10**6  # less than a few large requests and Redis' next writes need
FULL_INODES = 100
MAXIMUM_MEMORY_SHARE = 0.9
WARN_DAYS = 14


def status_report(
    hostvars: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    addresses: Mapping[str, str],
    queried: Sequence[str],
    warn_days: int = WARN_DAYS,
    version: str = "",
) -> Report:
    """Return the status of the hosts in `queried`.

    hostvars: the variables by host. addresses: address by host. warn_days: a certificate with fewer days left is a
    warning. version: version of the project. The report is healthy if it has no problem; warnings don't count.
    """
    hosts = [(group, name) for group in GROUPS for name in groups.get(group, []) if name in queried]
    results = {name: {key: hostvars[name].get(key) or {} for key in RESULTS} for _, name in hosts}
    locks = [result["deploy_lock_status"].get("held_by") for result in results.values()]
    balancers = {name: result["nginx_status"] for name, result in results.items() if "nodes" in result["nginx_status"]}
    report: Report = {
        "version": version,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "healthy": True,
        "problems": [],
        "warnings": [],
        "lock": next(filter(None, locks), None),
        "nodes": [],
    }
    for group, name in hosts:
        node = {"name": name, "group": group, "address": str(addresses[name])} | host_status(group, results[name])
        if group == "app":
            node["balancers"] = {each: node_on_balancer(name, status) for each, status in balancers.items()}
        report["nodes"].append(node)
        report["problems"] += [f"{name} {problem}" for problem in problems(node, report["lock"])]
        report["warnings"] += [f"{name}: {warning}" for warning in warnings(node, report["lock"], warn_days)]
    releases = {node["name"]: node["release"] for node in report["nodes"] if node.get("release")}
    if len(set(releases.values())) > 1:
        each = ", ".join(f"{name} {release}" for name, release in releases.items())
        report["warnings"].append(f"app nodes run different releases: {each}")
    report["healthy"] = not report["problems"]
    return report


def host_status(group: str, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return reachable, state and reason of a host, its disks and certificates, and the status of its service."""
    common, service = results["common_status"], results[f"{group}_status"]
    if "disks" not in common:
        return {"reachable": False, "state": "unreachable", "reason": common.get("msg", "")}
    if group == "nginx" and "state" in service:
        service = {"status": {name: service[name] for name in ("state", "reason", "maintenance", "pending")}}
    error = {"state": "unknown", "reason": service.get("msg") or "its status could not be queried"}
    certificate = results["certificates_status"].get("status", {})
    return {"reachable": True, "disks": common["disks"], **certificate, **service.get("status", error)}


def node_on_balancer(name: str, balancer: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether a balancer lists a node and sends requests to it; if it is drained, by which operation and why."""
    reason = balancer["drained"].get(name)
    listed = name in balancer["nodes"]
    return {"active": listed and reason is None, "listed": listed} | (reason or {})


def problems(node: Mapping[str, Any], lock: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what an operator has to repair. A node that an operator drained is no problem, whatever its state."""
    places = node.get("balancers", {})
    is_drained = bool(places) and all(place.get("kind") == "drain" for place in places.values())
    if node["state"] not in ("ready", "running") and not is_drained:
        yield f"is {node['state']}" + (f": {node['reason']}" if node["reason"] else "")
    if node.get("serving_release") and node["serving_release"] != node["release"]:
        yield f"serves release {node['serving_release']}, but its deployment has {node['release']}"
    for balancer, place in places.items():
        if not place["listed"]:
            yield f"is not listed on {balancer}"
        elif not place["active"] and place.get("kind") != "drain" and not by_holder(place, lock):
            yield f"is drained on {balancer}: {place.get('reason', 'no reason was recorded')}"
    for disk in node.get("disks", []):
        if disk["free"] < FULL_BYTES:
            yield f"has a full file system: {size(disk['free'])} are free on {disk['path']}; free some space"
        if disk["inodes"] and disk["free_inodes"] < FULL_INODES:
            yield f"has a full file system: {disk['free_inodes']} inodes are free on {disk['path']}; remove some files"
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        if node.get(name, "ok") != "ok":
            yield f"has {name} {node[name]}"


def by_holder(place: Mapping[str, Any], lock: Mapping[str, Any] | None) -> bool:
    """Return whether a node was drained by the operation that holds the lock."""
    return bool(lock) and place.get("deployment") == (lock or {}).get("id")


def warnings(node: Mapping[str, Any], lock: Mapping[str, Any] | None, warn_days: int) -> Iterator[str]:
    """Yield what will become a problem."""
    if "certificate_days" in node:
        if (days := node["certificate_days"]) is None:
            yield "its certificate can't be read; site.yml issues one if there is none"
        elif days < warn_days:
            yield f"its certificate {expires(days)}; site.yml renews certificates of the inventory's CA"
    if (days := node.get("ca_days")) is not None and days < warn_days:
        yield f"the inventory's CA {expires(days)}; see docs/how-to/tls-own-ca.md"
    for disk in node.get("disks", []):
        # A small file system, such as one for logs alone, may have less than MINIMUM_FREE_BYTES.
        if disk["free"] < max(min(MINIMUM_FREE_BYTES, disk["size"] / 2), MINIMUM_FREE_SHARE * disk["size"]):
            yield f"{size(disk['free'])} of {size(disk['size'])} are free on {disk['path']}"
        if disk["free_inodes"] < MINIMUM_FREE_SHARE * disk["inodes"]:
            yield f"{disk['free_inodes']} of {disk['inodes']} inodes are free on {disk['path']}"
    if node.get("maxmemory") and node["used_memory"] > MAXIMUM_MEMORY_SHARE * node["maxmemory"]:
        yield f"{size(node['used_memory'])} of {size(node['maxmemory'])} memory are used; a full Redis refuses logins"
    if node.get("aof_enabled") is False:
        yield "sessions are not written to disk (appendonly no)"
    for balancer, place in node.get("balancers", {}).items():
        if by_holder(place, lock):
            yield f"is drained on {balancer} by the operation that holds the lock; if it has ended, run it again"


def expires(days: float) -> str:
    """Return when a certificate expires or expired, as text."""
    return f"expires in {days:.0f} days" if days > 0 else f"expired {-days:.0f} days ago"


def status_table(report: Report) -> str:
    """Return the report as text."""
    nodes = report["nodes"]
    rows = [("node", "group", "address", "state", "balancer", "release", "since", "deployment")]
    rows += [
        (
            node["name"],
            node["group"],
            node["address"],
            node["state"],
            balancer_column(node.get("balancers")),
            node.get("release") or "",
            time(node.get("since")),
            node.get("deployment") or "",
        )
        for node in nodes
    ]
    lock = report["lock"]
    sections = [
        columns(rows),
        list(maintenance_lines(nodes)),
        list(drained_lines(nodes)),
        [f"{node['name']} has pending changes: {', '.join(node['pending'])}" for node in nodes if node.get("pending")],
        [
            f"The certificate of {node['name']} is valid until {time(node['certificate_until'])}"
            for node in nodes
            if node.get("certificate_until")
        ],
        [redis_line(node) for node in nodes if "redis_version" in node],
        [f"{lock.get('by')} has held the deploy lock since {time(lock.get('since'))}: {lock.get('what')}"]
        if lock
        else [],
        [f"warning: {each}" for each in report["warnings"]],
        [f"problem: {each}" for each in report["problems"]] or ["No problems."],
    ]
    title = [f"Anynode {report['version']}"] if report.get("version") else []
    return "\n\n".join("\n".join(section) for section in [title, *sections] if section)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of text as aligned lines."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def balancer_column(places: Mapping[str, Any] | None) -> str:
    """Return the state of a node on the balancers; "" for a host that is no app node."""
    if not places:
        return "" if places is None else "?"
    states = {place["active"] for place in places.values()}
    return "active" if states == {True} else "drained" if states == {False} else "differs"


def maintenance_lines(nodes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each balancer in maintenance mode."""
    for node in nodes:
        if notice := node.get("maintenance"):
            yield (
                f"{node['name']} is in maintenance mode since {time(notice.get('since'))},"
                f" by {notice.get('by')}: {notice.get('reason')}"
            )


def drained_lines(nodes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each drained node and balancer."""
    for node in nodes:
        for balancer, place in node.get("balancers", {}).items():
            if place["listed"] and not place["active"]:
                yield (
                    f"{node['name']} is drained on {balancer} since {time(place.get('since'))},"
                    f" by {place.get('by')}: {place.get('reason')}"
                )


def redis_line(node: Mapping[str, Any]) -> str:
    """Return a line on memory, sessions and persistence of a Redis."""
    limit = size(node["maxmemory"]) if node["maxmemory"] else "no limit"
    parts = [f"Redis {node['redis_version']} on {node['name']} uses {size(node['used_memory'])} of {limit}"]
    if "sessions" in node:
        parts.append(f"sessions: {'' if node['sessions_counted'] else 'about '}{node['sessions']}")
    parts.append(f"clients: {node['connected_clients']}")
    fsync = node.get("appendfsync", "?")
    written = node["aof_last_write_status"]
    parts.append(f"append-only file: fsync {fsync}, {written}" if node["aof_enabled"] else "no append-only file")
    parts.append(f"last snapshot {node['rdb_last_bgsave_status']}")
    return "; ".join(parts)


def time(text: str | None) -> str:
    """Return an ISO time in the form of the table, in UTC; other text as it is."""
    try:
        return datetime.fromisoformat(text or "").astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except ValueError:
        return text or ""


def size(number: float) -> str:
    """Return a number of bytes with three digits and a unit."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"status_report": status_report, "status_table": status_table}


if __name__ == "__main__":
    import sys

    report = json.load(sys.stdin)
    print(json.dumps(report, indent=4, sort_keys=True) if "--json" in sys.argv else status_table(report))
    sys.exit(0 if report["healthy"] else 1)
