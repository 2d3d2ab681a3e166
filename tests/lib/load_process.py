"""Visitors who are there while a test does something to the servers: lib.load, as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from lib.load.report import summary
from lib.load.run import UNDER_WAY

ROOT = Path(__file__).resolve().parents[2]


class Running:
    """result: what `python -m lib.load --json` printed, once the block has been left."""

    result: dict | None = None


@contextmanager
def load(url: str, account: dict, *, requests: int = 20_000, seconds: float = 1800, **options) -> Iterator[Running]:
    """Load on url from the first line of the block to the last, and on until so many requests were made.

    account: the JSON that logs in. seconds: at most, for the load to end. options: more of lib.load's, such as
    rate=150, visitors=20, timeline=path. If the block fails, the load ends at once.
    """
    running = Running()
    options |= {"user": account["username"], "requests": requests, "seconds": seconds}
    with tempfile.TemporaryDirectory() as folder:
        options["password_file"] = password_file = Path(folder) / "password"
        password_file.write_text(account["password"])
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        with (Path(folder) / "result").open("w+") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "lib.load", url, "--json", "--until-told", *words],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": f"{ROOT}/tests"},
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
            )
            said = []
            try:
                _relay_until(UNDER_WAY, process.stderr, said)
                assert said[-1].startswith(UNDER_WAY), f"lib.load did not start: {''.join(said)}"
                relay = Thread(target=_relay_until, args=("never", process.stderr, said), daemon=True)
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
                    assert printed, f"lib.load broke: {''.join(said)}"
                    running.result = json.loads(printed)
            finally:
                process.kill()
                process.wait()


def _relay_until(word: str, lines: Iterator[str], said: list[str]) -> None:
    for line in lines:
        said.append(line)
        print(line, end="", file=sys.stderr)
        if line.startswith(word):
            break


def assert_nobody_noticed(result: dict, worst_wait: float) -> None:
    """No request failed, no session and no write was lost, and nobody waited longer than worst_wait seconds."""
    problems = [
        *(["failed requests"] if result["failed"] else []),
        *(["sessions were lost"] if result["sessions_lost"] else []),
        *(["writes were lost or doubled"] if result["lost_writes"] or result["doubled_writes"] else []),
        *([f"a wait of more than {worst_wait} s"] if result["wait"]["worst_of_all"]["seconds"] > worst_wait else []),
        *([] if result["complete"] else ["too few requests"]),
    ]
    assert not problems, f"{', '.join(problems)}:\n{summary(result)}"
