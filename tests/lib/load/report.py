"""The result as text."""

from collections.abc import Mapping
from typing import Any


def summary(result: Mapping[str, Any]) -> str:
    """Lines for a terminal. result: of Run.go(), or printed by --json."""
    wait, gap = result["wait"], result["longest_without_success"]
    rate = result["requests"] / result["seconds"]
    short = "" if result["complete"] else f", FEWER THAN THE {result['requests_planned']} PLANNED: --seconds too low"
    lines = [
        f"{result['url']}: {result['requests']} requests in {result['seconds']:.1f} s ({rate:.0f}/s) "
        f"by {result['users']} users, from {result['began']}{short}",
        _line("failed", _listed(result["failures"]) if result["failed"] else "0"),
        _line("longest wait", f"{_moment(wait['worst'])}; with failed: {_moment(wait['worst_of_all'])}"),
    ]
    if wait["p50"] is not None:
        lines.append(_line("waits", f"half within {wait['p50']:.3f} s, 99 % within {wait['p99']:.3f} s"))
    lines += [
        _line("no success for", f"{gap['seconds']:.3f} s at most, {gap['at']:.1f} s after the start"),
        _line("sessions lost", str(result["sessions_lost"])),
        _line(
            "writes",
            f"{result['lost_writes']} lost, {result['doubled_writes']} doubled, "
            f"{result['unacknowledged_but_kept']} unacknowledged but kept",
        ),
        _line("retried", f"on a fresh connection, as browsers do: {_listed(result['retried']) or '0'}"),
    ]
    lines += [
        _line(method, f"{each['requests']} requests, failed: {_listed(each['failures']) or '0'}")
        for method, each in result["by_method"].items()
        if each["requests"] or method != "login"
    ]
    lines.append(_line("by node", _listed(result["by_node"])))
    if set(result["by_release"]) - {"none"}:
        lines.append(_line("by release", _listed(result["by_release"])))
    lines.append(_line("own delay", f"this tool sent requests up to {result['own_lag']:.3f} s late"))
    if result["first_failures"]:
        lines.append("The first failures:")
        lines += [
            f"  {each['at']:.3f} s after the start, {each['method']}: {each['failure']} after {each['seconds']:.3f} s, "
            f"node {each['node']}, request {each['request_id']}"
            for each in result["first_failures"]
        ]
    return "\n".join(lines)


def row(event: str, result: Mapping[str, Any]) -> str:
    """A row of a Markdown table: the event and its effects."""
    wait, gap = result["wait"], result["longest_without_success"]
    retries = sum(result["retried"].values())
    cells = [
        event,
        f"{result['requests']:,}",
        f"{result['failed']} ({_listed(result['failures'])})" if result["failed"] else "0",
        f"{result['sessions_lost']}",
        f"{result['lost_writes']} / {result['doubled_writes']}",
        f"{wait['worst']['seconds']:.2f} s",
        f"{wait['worst_of_all']['seconds']:.2f} s" if result["failed"] else "-",
        f"{gap['seconds']:.2f} s",
        f"{retries}",
    ]
    return f"| {' | '.join(cells)} |"


def _line(name: str, text: str) -> str:
    return f"{name:<15}{text}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {number}" for name, number in counts.items())


def _moment(worst: Mapping[str, Any]) -> str:
    return f"{worst['seconds']:.3f} s ({worst['method']}, {worst['at']:.1f} s after the start)"
