"""Merges the log lines of one request from several hosts."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def request_lines(results: Mapping[str, Mapping[str, Any]], request_id: str) -> str:
    """Return the results of the module request_log, by host, as text: a line for each entry, in order of time."""
    entries = [
        (entry["time"], host, entry["text"]) for host, result in results.items() for entry in result.get("entries", [])
    ]
    width = max(map(len, results), default=0)
    lines = [f"{_time(at)}  {host.ljust(width)}  {_printable(text)}" for at, host, text in sorted(entries)]
    if not lines:
        searched = [f"  {host}: {result['searched']}" for host, result in results.items() if "searched" in result]
        lines = [f"No log has a line about request {request_id}. Searched:", *searched]
    if unreachable := [host for host, result in results.items() if "entries" not in result]:
        lines.append(f"Unreachable: {', '.join(unreachable)}")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")


def _printable(text: str) -> str:
    """Replace control characters: clients choose parts of these texts, and must not control the terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"request_lines": request_lines}
