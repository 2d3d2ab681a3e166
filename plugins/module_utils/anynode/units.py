"""The reason why a systemd unit doesn't run, from its logs."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
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
Run = Callable[[list[str]], tuple[int, str, str]]


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


def messages(run: Run, unit: str, log_files: Sequence[str], since: int = 0) -> dict[str, list[str]]:
    """Return the last lines that a unit wrote, by their source, without systemd's reports.

    run: runs a command; returns its exit status, standard output and standard error.
    since: in seconds since the epoch; a log file that was written later is read to its end nevertheless.
    """
    command = ["journalctl", f"--unit={unit}", "--output=cat", "--no-pager", f"--lines={LINES}", f"--since=@{since}"]
    own = [line for line in run(command)[1].splitlines() if line.strip() and not REPORTS.search(line)]
    found = {"the journal": own} | {path: last_lines(path, since) for path in log_files}
    return {source: lines for source, lines in found.items() if lines}


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
