"""A real gunicorn with the rendered gunicorn.conf.py and the role's runtime."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import requests
from prometheus_client.parser import text_string_to_metric_families

from lib.ansible_runs import ROOT, SOURCES
from lib.cluster import eventually
from lib.demo_app import environ
from lib.redis_server import free_port

WORKERS = 3
PACKAGES = SOURCES


RUNTIME = ROOT / "roles/app/files/gunicorn_runtime.py"


class Node:
    """Gunicorn as the unit starts it, without the sandbox."""

    def __init__(
        self,
        config: Path,
        metrics_port: int | None,
        folder: Path,
        redis_port: int = 1,
        app: str = "anynode:create_app()",
        packages: str = PACKAGES,
    ) -> None:
        shutil.copy(RUNTIME, config.parent)
        self.counts = folder / "counts"
        self.counts.mkdir()
        self.metrics_port = metrics_port
        self.port = free_port()
        self._log = folder / "log"
        self.settings = environ(redis_port, PROMETHEUS_MULTIPROC_DIR=str(self.counts), PYTHONPATH=packages)
        command = [sys.executable, "-m", "gunicorn", "--config", str(config), "--bind", f"127.0.0.1:{self.port}", app]
        with self._log.open("w") as log:
            self.master = subprocess.Popen(command, env=self.settings, cwd=folder, stdout=log, stderr=log)

    def stop(self) -> None:
        """Stop it with SIGTERM to the master, as systemd does."""
        self.master.terminate()
        self.master.wait(30)

    def log(self) -> str:
        return self._log.read_text()

    def workers(self) -> set[int]:
        """Return the process ids of the live workers."""
        listed = Path(f"/proc/{self.master.pid}/task/{self.master.pid}/children")
        return set(map(int, listed.read_text().split()))

    def wait(self) -> "Node":
        """Wait until every worker has loaded the app, which creates its counters."""
        assert eventually(lambda: self.files() >= WORKERS and len(self.workers()) == WORKERS), self.log()
        return self

    def newest(self, count: int) -> int | None:
        """Return the process id of the worker that became ready last; None before `count` workers did."""
        ready = re.findall(r"^ready (\d+)$", self.log(), re.MULTILINE)
        return int(ready[-1]) if len(ready) >= count else None

    def files(self) -> int:
        return len(list(self.counts.glob("counter_*.db")))

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(
            f"http://127.0.0.1:{self.port}{path}", headers=headers | {"Connection": "close"}, timeout=10
        )

    def request_each(self, path: str, times: int) -> None:
        """Send the same number of requests to each worker, while the others are stopped."""
        workers = self.workers()
        for worker in workers:
            others = workers - {worker}
            for other in others:
                os.kill(other, signal.SIGSTOP)
            assert eventually(partial(are_stopped, others))
            try:
                for _ in range(times):
                    assert self.get(path).status_code == 200
            finally:
                for other in others:
                    os.kill(other, signal.SIGCONT)

    def scrape(self) -> dict[tuple[str, ...], float]:
        """Return all samples by name and labels, as a monitoring system reads them."""
        text = requests.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10).text
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def raw_scrape(self) -> bytes:
        """Return all bytes of a scrape's response."""
        with socket.create_connection(("127.0.0.1", self.metrics_port or 0), timeout=10) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return connection.makefile("rb").read()

    def requests_without_session(self) -> float:
        """Return the node's count of requests without a session."""
        return self.scrape()["anynode_sessions_requests_total", "none"]


def are_stopped(pids: Iterable[int]) -> bool:
    return all(map(is_stopped, pids))


def is_stopped(pid: int) -> bool:
    return bool(re.search(r"^State:\s+T", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))
