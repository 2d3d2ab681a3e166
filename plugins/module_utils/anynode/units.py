"""The reason why a systemd unit doesn't run, from its logs."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LINES = 20
# Lines that name no cause: systemd's own reports of a failure.
REPORTS = re.compile(
    r"systemd\[|Main process exited|Failed with result|Failed to start|Scheduled restart job|Start request repeated|"
    r"Stopped |Starting |Started |Consumed |Control process exited|Reloading |Reloaded "
)
Run = Callable[[list[str]], tuple[int, str, str]]


def last_lines(path: str, count: int = LINES) -> list[str]:
    """Return the last lines of a log file; none if it can't be read."""
    try:
        with Path(path).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 64 * 1024))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def log_lines(run: Run, unit: str, log_files: Sequence[str]) -> list[str]:
    """Return the last lines that a unit wrote, to the journal and to its log files, without systemd's reports.

    run: runs a command; returns its exit status, standard output and standard error.
    """
    journal = run(["journalctl", f"--unit={unit}", "--output=cat", "--no-pager", f"--lines={LINES}"])[1].splitlines()
    own = [line for line in journal if line.strip() and not REPORTS.search(line)]
    return own + [line for path in log_files for line in last_lines(path)]


def remedy(lines: Sequence[str], remedies: Mapping[str, str]) -> str:
    """Return the remedy of the latest known cause in the lines, "" if none is known.

    remedies: by regular expression that finds the cause.
    """
    for line in reversed(lines):
        for pattern, text in remedies.items():
            if re.search(pattern, line):
                return text
    return ""


def failure(unit: str, verb: str, lines: Sequence[str], remedies: Mapping[str, str]) -> str:
    """Return the message about a unit that failed to "start", "restart" or "reload"."""
    found = "\n".join(f"    {line}" for line in lines[-LINES:])
    return "\n".join(
        part
        for part in (
            f"{unit} doesn't {verb}. {remedy(lines, remedies)}".strip(),
            f"Its last messages:\n{found}" if found else f"It wrote no messages; see systemctl status {unit}.",
        )
    )
