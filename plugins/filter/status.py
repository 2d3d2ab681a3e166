"""Sums up how the cluster is: a report for programs, a table for people."""

import json
import re
from base64 import b64decode
from datetime import UTC, datetime
from ssl import cert_time_to_seconds

GROUPS = ("nginx", "redis", "app")
# What the tasks of the playbook and of the roles register.
REGISTERED = {
    "disks": "status_disks",
    "certificate": "status_certificate",
    "upstream": "__nginx_upstream_told",
    "unit": "__nginx_unit",
    "maintenance": "__nginx_maintenance_file",
    "lock": "__deploy_lock_told",
    "redis": "redis_status",
    "app": "__app_told",
    "deployment": "__app_deployment_told",
}
GIGABYTE = 10**9
LEAST_FREE_BYTES, LEAST_FREE_SHARE = GIGABYTE, 0.1
MOST_MEMORY_SHARE = 0.9
WARN_DAYS = 14


def status_report(hostvars, groups, addresses, asked, warn_days=WARN_DAYS):
    """Return how the cluster is, from what playbooks/status.yml registered for the hosts in `asked`.

    A certificate that has fewer than warn_days left is warned of.
    """
    hosts = [(group, name) for group in GROUPS for name in groups.get(group, []) if name in asked]
    told = {name: _registered(hostvars[name]) for _group, name in hosts}
    locks = [told[name]["lock"] for _group, name in hosts if told[name]["lock"]]
    report = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "well": True,
        "problems": [],
        "warnings": [],
        "lock": locks[0]["held_by"] if locks else None,
        "nodes": [],
    }
    balancers = {name: told[name]["upstream"] for group, name in hosts if group == "nginx" and told[name]["upstream"]}
    for group, name in hosts:
        node = {"name": name, "group": group, "address": str(addresses[name])} | _reach(told[name]["disks"])
        if node["reachable"]:
            tell = {"nginx": _tell_balancer, "redis": _tell_redis, "app": _tell_app}[group]
            node |= tell(told[name]) | _tell_certificate(told[name]["certificate"])
        if group == "app":
            node["balancers"] = {each: _place(name, upstream) for each, upstream in balancers.items()}
        report["nodes"].append(node)
        report["problems"] += [f"{name} {problem}" for problem in _problems(node, report["lock"])]
        report["warnings"] += [f"{name}: {warning}" for warning in _warnings(node, warn_days)]
        report["warnings"] += [
            f"{name} is out of {balancer} by the run that holds the lock; if that run is over, run it again"
            for balancer, place in node.get("balancers", {}).items()
            if place.get("kind") == "deployment" and place.get("deployment") == (report["lock"] or {}).get("id")
        ]
    by_release = {node["name"]: node["release"] for node in report["nodes"] if node.get("release")}
    if len(set(by_release.values())) > 1:
        each = ", ".join(f"{name} {release}" for name, release in by_release.items())
        report["warnings"].append(f"app nodes run different releases: {each}")
    report["well"] = not report["problems"]
    return report


def _registered(variables):
    """What the tasks left for one host, {} for what was not asked."""
    results = {name: variables.get(variable) or {} for name, variable in REGISTERED.items()}
    return {name: {} if result.get("skipped") or result.get("failed") else result for name, result in results.items()}


def _reach(disks):
    """Whether a machine answered, and how full it is."""
    if disks.get("unreachable") or not disks:
        return {"reachable": False, "state": "unreachable", "reason": " ".join(str(disks.get("msg", "")).split())}
    found = {}
    for line in disks["stdout_lines"][1:]:
        free, size, path = line.split(None, 2)
        found[path] = {"path": path, "free": int(free), "size": int(size)}
    return {"reachable": True, "state": "not asked", "reason": "", "disks": list(found.values())}


def _tell_balancer(told):
    text = b64decode(told["maintenance"].get("content") or "").decode()
    note = re.search(r"^# on: (.*)$", text, re.MULTILINE)
    found = {"maintenance": json.loads(note[1]) if note else None}
    state = told["unit"].get("stdout", "unknown")
    if state in ("active", "reloading"):
        return found | {"state": "runs"}
    return found | {"state": "stopped", "reason": f"nginx.service is {state}"}


def _tell_redis(told):
    return {name: value for name, value in told["redis"].items() if name not in ("changed", "failed")}


def _tell_certificate(told):
    """Until when it is valid, and the CA's, and for how many days more; without days if that can't be told."""
    if told.get("skipped", not told):
        return {}
    found = {"certificate_until": None, "certificate_days": None}
    for kind, said in zip(("certificate", "ca"), re.findall("notAfter=(.*)", told.get("stdout", "")), strict=False):
        end = datetime.fromtimestamp(cert_time_to_seconds(said), UTC)
        left = (end - datetime.now(UTC)).total_seconds() / 86400
        found |= {f"{kind}_until": end.isoformat(timespec="seconds"), f"{kind}_days": round(left, 1)}
    return found


def _tell_app(told):
    current, service = told["deployment"].get("current", {}), told["app"]
    return {
        "state": service.get("state", "not asked"),
        "reason": service.get("reason", ""),
        "release": current.get("release"),
        "answers_as": service.get("release") or None,
        "run": current.get("run"),
        "since": current.get("started"),
        "pending": told["deployment"].get("outdated", []),
    }


def _place(name, upstream):
    """Whether a balancer sends visitors to a node; if not, who took it out, since when, why."""
    note = upstream["drained"].get(name)
    return {"in": name in upstream["nodes"] and note is None, "nodes": name in upstream["nodes"]} | (note or {})


def _problems(node, lock):
    """What somebody has to do something about; what a person did on purpose is none."""
    places = node.get("balancers", {})
    outs = {each: place for each, place in places.items() if not place["in"]}
    is_drained = bool(places) and all(place.get("kind") == "drain" for place in places.values())
    if node["state"] not in ("ready", "runs") and not is_drained:
        yield f"is {node['state']}" + (f": {node['reason']}" if node["reason"] else "")
    if node.get("answers_as") and node["answers_as"] != node["release"]:
        yield f"answers as release {node['answers_as']}, but {node['release']} is what it should run"
    for balancer, place in outs.items():
        if not place["nodes"]:
            yield f"is unknown to {balancer}"
        elif place.get("kind") != "drain" and (lock or {}).get("id") != place.get("deployment", ""):
            yield f"is out of {balancer}: {place.get('reason', 'nobody says why')}"
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        if node.get(name, "ok") != "ok":
            yield f"has {name} {node[name]}"


def _warnings(node, warn_days):
    """What is going to be a problem."""
    if node.get("certificate_days", warn_days) is None:
        yield "nobody can tell until when its certificate is valid; site.yml makes one if there is none"
    elif (days := node.get("certificate_days", warn_days)) < warn_days:
        yield f"its certificate {_left(days)}; site.yml renews one of the inventory's CA, and loads what is there"
    if (days := node.get("ca_days", warn_days)) < warn_days:
        yield f"the inventory's CA {_left(days)}; docs/tls.md says how to replace it"
    for disk in node.get("disks", []):
        if disk["free"] < max(LEAST_FREE_BYTES, LEAST_FREE_SHARE * disk["size"]):
            yield f"{_size(disk['free'])} of {_size(disk['size'])} are free on {disk['path']}"
    if node.get("maxmemory") and node["used_memory"] > MOST_MEMORY_SHARE * node["maxmemory"]:
        yield f"{_size(node['used_memory'])} of {_size(node['maxmemory'])} memory are used; a full Redis refuses logins"
    if node.get("aof_enabled") is False:
        yield "sessions are not written to disk (appendonly no)"


def _left(days):
    return f"ends in {days:.0f} days" if days > 0 else f"ended {-days:.0f} days ago"


def status_table(report):
    """Return the report as text."""
    rows = [("node", "group", "address", "state", "balancer", "release", "since", "run")]
    for node in report["nodes"]:
        rows.append(
            (
                node["name"],
                node["group"],
                node["address"],
                node["state"],
                _in_or_out(node.get("balancers")),
                node.get("release") or "",
                _time(node.get("since")),
                node.get("run") or "",
            )
        )
    lines = _columns(rows)
    parts = [lines, _maintenance_lines(report["nodes"]), _out_lines(report["nodes"]), _pending_lines(report["nodes"])]
    parts += [_certificate_lines(report["nodes"])]
    parts += [[_redis_line(node)] for node in report["nodes"] if node["group"] == "redis" and "redis_version" in node]
    if report["lock"]:
        lock = report["lock"]
        parts.append([f"{lock.get('by')} holds the lock of runs since {_time(lock.get('since'))}: {lock.get('what')}"])
    parts.append([f"warning: {each}" for each in report["warnings"]])
    parts.append([f"problem: {each}" for each in report["problems"]] or ["All is well."])
    return "\n\n".join("\n".join(part) for part in parts if part)


def _columns(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _in_or_out(places):
    states = {place["in"] for place in (places or {}).values()}
    if not states:
        return "" if places is None else "?"
    return "in" if states == {True} else "drained" if states == {False} else "in and out"


def _maintenance_lines(nodes):
    return [
        f"{node['name']} turns visitors away since {_time(note.get('since'))}, by {note.get('by')}: {note.get('reason')}"
        for node in nodes
        if (note := node.get("maintenance"))
    ]


def _out_lines(nodes):
    return [
        f"{node['name']} is out of {balancer} since {_time(place.get('since'))},"
        f" by {place.get('by')}: {place.get('reason')}"
        for node in nodes
        for balancer, place in node.get("balancers", {}).items()
        if not place["in"] and place["nodes"]
    ]


def _pending_lines(nodes):
    return [
        f"{node['name']} changes at the next run: {', '.join(node['pending'])}" for node in nodes if node.get("pending")
    ]


def _certificate_lines(nodes):
    return [
        f"The certificate of {node['name']} is valid until {_time(node['certificate_until'])}"
        for node in nodes
        if node.get("certificate_until")
    ]


def _redis_line(node):
    limit = _size(node["maxmemory"]) if node["maxmemory"] else "no limit"
    parts = [f"Redis {node['redis_version']} uses {_size(node['used_memory'])} of {limit}"]
    if "sessions" in node:
        parts.append(f"sessions: {'' if node['sessions_counted'] else 'about '}{node['sessions']}")
    parts.append(f"clients: {node['connected_clients']}")
    saved = node["aof_last_write_status"]
    fsync = node.get("appendfsync", "?")
    parts.append(f"append-only file: fsync {fsync}, {saved}" if node["aof_enabled"] else "no append-only file")
    parts.append(f"last snapshot {node['rdb_last_bgsave_status']}")
    return "; ".join(parts)


def _time(text):
    """A time as people read it, in UTC."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (TypeError, ValueError):
        return text or ""


def _size(number):
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Name the filters."""
        return {"status_report": status_report, "status_table": status_table}


if __name__ == "__main__":
    import sys

    report = json.load(sys.stdin)
    print(json.dumps(report, indent=4, sort_keys=True) if "--json" in sys.argv else status_table(report))
    sys.exit(0 if report["well"] else 1)
