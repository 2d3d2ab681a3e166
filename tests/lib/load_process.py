"""Load during a test: lib.load as a separate process."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from lib.load.report import summary
from lib.load.run import STARTED

ROOT = Path(__file__).resolve().parents[2]


class Running:
    """result: the output of `python -m lib.load --json`; empty during the block."""

    result: dict[str, Any] = {}


@contextmanager
def load(
    url: str, account: dict[str, str], *, requests: int = 20_000, seconds: float = 1800, **options: Any
) -> Iterator[Running]:
    """Send requests to url during the whole block, and until so many requests were made.

    account: the JSON of a login. seconds: the maximum duration. options: more options of lib.load, such as rate=150,
    users=20, timeline=path. If the block fails, the load ends at once.
    """
    running = Running()
    options |= {"username": account["username"], "requests": requests, "seconds": seconds}
    with tempfile.TemporaryDirectory() as folder:
        options["password_file"] = password_file = Path(folder) / "password"
        password_file.write_text(account["password"])
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        with (Path(folder) / "result").open("w+") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "lib.load", url, "--json", "--until-sigterm", *words],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": f"{ROOT}/tests"},
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert process.stderr
            printed_lines: list[str] = []
            try:
                _relay_until(STARTED, process.stderr, printed_lines)
                assert printed_lines[-1].startswith(STARTED), f"lib.load did not start: {''.join(printed_lines)}"
                relay = Thread(target=_relay_until, args=("never", process.stderr, printed_lines), daemon=True)
                relay.start()
                sign = signal.SIGINT
                try:
                    yield running
                    sign = signal.SIGTERM
                finally:
                    process.send_signal(sign)
                    process.wait(seconds + 60)
                    relay.join(10)
                    output.seek(0)
                    printed = output.read()
                    assert printed, f"lib.load failed: {''.join(printed_lines)}"
                    running.result = json.loads(printed)
            finally:
                process.kill()
                process.wait()


def _relay_until(word: str, lines: Iterable[str], printed_lines: list[str]) -> None:
    for line in lines:
        printed_lines.append(line)
        print(line, end="", file=sys.stderr)
        if line.startswith(word):
            break


def assert_no_errors(result: dict[str, Any], worst_wait: float) -> None:
    """Assert that no request failed, no session or write was lost, and no wait was longer than worst_wait seconds."""
    problems = [
        *(["failed requests"] if result["failed"] else []),
        *(["sessions were lost"] if result["sessions_lost"] else []),
        *(["writes were lost or doubled"] if result["lost_writes"] or result["doubled_writes"] else []),
        *([f"a wait of more than {worst_wait} s"] if result["wait"]["worst_of_all"]["seconds"] > worst_wait else []),
        *([] if result["complete"] else ["too few requests"]),
    ]
    assert not problems, f"{', '.join(problems)}:\n{summary(result)}"
