"""Merges what several machines logged about one request."""

from datetime import UTC, datetime


def request_lines(results, request_id):
    """Return a text from the results of the module request_log by host: a line each, in order of time."""
    entries = [
        (entry["time"], host, entry["text"]) for host, result in results.items() for entry in result.get("entries", [])
    ]
    width = max(map(len, results), default=0)
    lines = [f"{_time(at)}  {host.ljust(width)}  {_printable(text)}" for at, host, text in sorted(entries)]
    unseen = [host for host, result in results.items() if "entries" not in result]
    if not lines:
        looked = [f"{host}: {result['looked']}" for host, result in results.items() if "looked" in result]
        lines = [f"Nothing is known of request {request_id}. Looked in:", *(f"  {each}" for each in looked)]
    if unseen:
        lines.append(f"Could not be asked: {', '.join(unseen)}")
    return "\n".join(lines)


def _time(seconds):
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")


def _printable(text):
    """Visitors have a say in these texts: they must not steer the terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Name the filters."""
        return {"request_lines": request_lines}
