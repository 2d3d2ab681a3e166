#!/usr/bin/env python3
"""Where the time of the tests goes: the actions of a molecule scenario, and the slowest tests of all stages.

make molecule | scripts/test_report.py record FILE    copy the output, and write the seconds of each action to FILE
scripts/test_report.py actions FILE                   print the content of FILE in a line
scripts/test_report.py slowest FOLDER                 print the slowest tests of the JUnit files in FOLDER
"""

from __future__ import annotations

import json
import re
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

COLOR = re.compile(r"\x1b\[[0-9;]*m")
ACTION = re.compile(r"➜ (\w+): Executing")
Action = tuple[str, float]


def timed_actions(lines: Iterable[str], clock: Callable[[], float] = time.monotonic) -> Iterator[Action]:
    """Yield each action of molecule's output and its duration in seconds, at the begin of the next action."""
    action, began = "", 0.0
    for line in lines:
        if match := ACTION.search(COLOR.sub("", line)):
            if action:
                yield action, clock() - began
            action, began = match[1], clock()
    if action:
        yield action, clock() - began


def copied(lines: Iterable[str]) -> Iterator[str]:
    """Print each line before it is used."""
    for line in lines:
        print(line, end="", flush=True)
        yield line


def slowest(folder: Path, count: int = 20) -> list[str]:
    """Return lines about the slowest tests of the JUnit files in a folder, the slowest first."""
    tests = [
        (float(case.get("time", 0)), file.stem, f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}")
        for file in sorted(folder.glob("*.xml"))
        for case in ElementTree.parse(file).iter("testcase")
    ]
    tests.sort(key=lambda test: -test[0])
    return [f"{seconds:7.1f} s  {stage:<12} {name}" for seconds, stage, name in tests[:count]]


def main(command: str, path: Path) -> None:
    """Run a command, see above."""
    match command:
        case "record":
            path.write_text(json.dumps(list(timed_actions(copied(sys.stdin)))))
        case "actions":
            actions = json.loads(path.read_text())
            print(", ".join(f"{action} {seconds:.0f} s" for action, seconds in actions))
        case "slowest":
            print("\n".join(slowest(path)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
