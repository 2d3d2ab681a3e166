"""systemd units: whether they run with an older version of their files, and why they don't run."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LINES = 20
# Options of modules that report messages of a unit.
LOG_OPTIONS: dict[str, dict[str, Any]] = {
    "log_files": {"type": "list", "elements": "path", "default": []},
    "remedies": {"type": "dict", "default": {}},
}
# Lines that name no cause: systemd's own reports of a failure.
REPORTS = re.compile(
    r"systemd\[|Main process exited|Failed with result|Failed to start|Scheduled restart job|Start request repeated|"
    r"Stopped |Starting |Started |Consumed |Control process exited|Reloading |Reloaded "
)
# As preflight makes secrets: letters of both cases and digits. Ids of requests and releases are hexadecimal.
SECRET = re.compile(r"\b(?=\w*[a-z])(?=\w*[A-Z])(?=\w*[0-9])[A-Za-z0-9_-]{16,}\b")
SINCE = ["ExecMainStartTimestamp", "ActiveEnterTimestamp", "StateChangeTimestamp"]
# An option of modules: units with the files that they read.
UNITS_OPTION: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "options": {
        "name": {"type": "str", "required": True},
        "paths": {"type": "list", "elements": "path", "required": True},
        "since": {"type": "str", "default": SINCE[0], "choices": SINCE},
    },
}
Run = Callable[[list[str]], tuple[int, str, str]]


def parse(text: str) -> float:
    """Return the seconds since the epoch of "Sun 2026-11-22 15:12:19.123456 UTC", as systemd prints it."""
    date = text.split(" ", 1)[1]  # the name of the day depends on the locale
    return datetime.strptime(date, "%Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=UTC).timestamp()


def newer(paths: Sequence[str], read: float) -> list[str]:
    """Return the paths that changed after `read`, in seconds since the epoch."""
    # The change time of the inode: a rename sets it, and no program can set it back.
    return [path for path in paths if os.path.lexists(path) and os.lstat(path).st_ctime > read]


def outdated(run: Run, units: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the files that changed after a running unit read them, by unit, and the units to enable, start or reload.

    units: with `name`, `paths` and the property `since` of the time at which the unit last read these paths.
    Raises ValueError with the message of systemctl if it fails.
    """
    if not units:
        return {}, []
    properties = ",".join(["ActiveState", "UnitFileState", "NeedDaemonReload", *SINCE])
    names = [unit["name"] for unit in units]
    status, shown, error = run(["systemctl", "show", "--timestamp=us+utc", f"--property={properties}", *names])
    if status:
        raise ValueError(error)
    found: dict[str, list[str]] = {}
    needs_start = set()
    for unit, block in zip(units, shown.strip().split("\n\n"), strict=True):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        runs = values.get("ActiveState") in ("active", "reloading")
        if not (runs and values.get("UnitFileState") == "enabled" and values.get("NeedDaemonReload") == "no"):
            needs_start.add(unit["name"])
        since = values.get(unit["since"])
        if runs and since and (files := newer(unit["paths"], parse(since))):
            found.setdefault(unit["name"], []).extend(files)
    return found, sorted(needs_start)


def pending(run: Run, units: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the changes of files that a running unit hasn't read yet, as texts."""
    files, _needs_start = outdated(run, units)
    return [f"{path} changed after {name} had read it" for name, paths in files.items() for path in paths]


def redacted(line: str) -> str:
    """Return a line of a log without texts that look like secrets: a program may quote the setting that it refuses."""
    return SECRET.sub("[redacted]", line)


def last_lines(path: str, since: int = 0) -> list[str]:
    """Return the last lines of a log file; none if it can't be read, or wasn't written since a time.

    since: in seconds since the epoch.
    """
    try:
        with Path(path).open("rb") as file:
            if os.fstat(file.fileno()).st_mtime < since:
                return []
            file.seek(max(0, file.seek(0, 2) - 64 * 1024))
            return file.read().decode(errors="replace").splitlines()[-LINES:]
    except OSError:
        return []


def messages(run: Run, unit: str, log_files: Sequence[str] = (), since: int = 0) -> dict[str, list[str]]:
    """Return the last lines that a unit wrote, by their source, without systemd's reports.

    run: runs a command; returns its exit status, standard output and standard error.
    since: in seconds since the epoch; a log file that was written later is read to its end nevertheless.
    """
    command = ["journalctl", f"--unit={unit}", "--output=cat", "--no-pager", f"--lines={LINES}", f"--since=@{since}"]
    own = [line for line in run(command)[1].splitlines() if line.strip() and not REPORTS.search(line)]
    found = {"the journal": own} | {path: last_lines(path, since) for path in log_files}
    return {source: [redacted(line) for line in lines] for source, lines in found.items() if lines}


def last_message(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the last line of the last source that has any, as a list of at most one text. found: as of messages()."""
    return [f"last message in {source}: {lines[-1]}" for source, lines in found.items()][-1:]


def remedy(found: Mapping[str, Sequence[str]], remedies: Mapping[str, str]) -> str:
    """Return the remedy of the last known cause in messages, "" if none is known.

    found: lines by source. remedies: by regular expression that finds the cause.
    """
    for line in reversed([line for lines in found.values() for line in lines]):
        for pattern, text in remedies.items():
            if re.search(pattern, line):
                return text
    return ""


def failure(unit: str, verb: str, found: Mapping[str, Sequence[str]], remedies: Mapping[str, str]) -> str:
    """Return the message about a unit that failed to "start", "restart" or "reload"."""
    parts = [f"{unit} doesn't {verb}. {remedy(found, remedies)}".strip()]
    for source, lines in found.items():
        parts += [f"Its last messages in {source}:", *(f"    {line}" for line in lines)]
    return "\n".join(parts if found else [*parts, f"It wrote no messages; see systemctl status {unit}."])
