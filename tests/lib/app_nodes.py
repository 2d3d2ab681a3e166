"""App nodes: an app under gunicorn."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any

import pytest

from lib.ansible_runs import ROOT, SOURCES
from lib.redis_server import free_port

GUNICORN = ("-m", "gunicorn")
WRONG_CLOCK = str(ROOT / "tests/lib/wrong_clock.py")


def start_node(
    environ: Mapping[str, str],
    log: IO[Any],
    *,
    workers: int = 1,
    threads: int = 4,
    options: str = "",
    app: str = "anynode:create_app()",
    program: Sequence[str] = GUNICORN,
    wrapper: Sequence[str] = (),
) -> tuple[subprocess.Popen[bytes], int]:
    """Start gunicorn on a free port of loopback.

    environ: additional environment variables, see lib.demo_app.environ. options: more of gunicorn's. program: arguments
    of Python that start gunicorn. wrapper: a command that runs it, such as taskset. Returns the process and its port.
    """
    port = free_port()
    options = f"--worker-class gthread --workers {workers} --threads {threads} --bind 127.0.0.1:{port} {options}"
    process = subprocess.Popen(
        [*wrapper, sys.executable, *program, *options.split(), "--no-control-socket", app],
        env=os.environ | {"PYTHONPATH": f"{SOURCES}:{ROOT}/tests"} | dict(environ),
        stdout=log,
        stderr=log,
    )
    return process, port


def wait_until_healthy(port: int, log: Path, path: str = "/healthz") -> None:
    """Wait until the node on this port answers path with 200, for at most 20 s. log: its log, shown on failure."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=1)
        with suppress(OSError):
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        time.sleep(0.02)
    pytest.fail(f"a node did not start within 20 s:\n{log.read_text()}")


def stop_nodes(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Terminate nodes and wait for their end, at most 20 s for each."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(20)
