"""Real nodes: the app under gunicorn."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from lib.demo_app import environ
from lib.redis_server import free_port

ROOT = Path(__file__).parents[2]


def start_node(redis_port, log, *, workers, threads, app="anynode:create_app()", **changes):
    """The process, and its port."""
    port = free_port()
    options = f"--worker-class gthread --workers {workers} --threads {threads} --bind 127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options.split(), "--no-control-socket", app],
        env=os.environ | environ(redis_port, **changes) | {"PYTHONPATH": f"{ROOT}/app/src:{ROOT}/tests"},
        stdout=log,
        stderr=log,
    )
    return process, port


def wait_until_it_serves(port, log):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=1)
        with suppress(OSError):
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)
    pytest.fail(f"a node did not start within 20 s:\n{log.read_text()}")
