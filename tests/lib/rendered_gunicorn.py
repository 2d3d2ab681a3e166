"""A real gunicorn with the rendered gunicorn.conf.py."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import requests
from prometheus_client.parser import text_string_to_metric_families

from lib.ansible_runs import ROOT
from lib.cluster import eventually
from lib.demo_app import environ
from lib.redis_server import free_port

WORKERS = 3
PACKAGES = f"{ROOT}/app/src"


class Node:
    """Gunicorn as the unit starts it, but for the sandbox."""

    def __init__(self, config, metrics_port, folder, redis_port=1, app="anynode:create_app()", packages=PACKAGES):
        self.counts = folder / "counts"
        self.counts.mkdir()
        self.metrics_port = metrics_port
        self.port = free_port()
        self._log = folder / "log"
        self.settings = environ(redis_port, PROMETHEUS_MULTIPROC_DIR=str(self.counts), PYTHONPATH=packages)
        command = [sys.executable, "-m", "gunicorn", "--config", config, "--bind", f"127.0.0.1:{self.port}", app]
        with self._log.open("w") as log:
            self.master = subprocess.Popen(command, env=self.settings, cwd=folder, stdout=log, stderr=log)

    def stop(self):
        """As systemd does: the master gets SIGTERM, what is left SIGKILL."""
        self.master.terminate()
        self.master.wait(30)

    def log(self):
        return self._log.read_text()

    def workers(self):
        """The process ids of the workers that live."""
        listed = Path(f"/proc/{self.master.pid}/task/{self.master.pid}/children")
        return set(map(int, listed.read_text().split()))

    def wait(self):
        """Until every worker has loaded the app; its counters are made then."""
        assert eventually(lambda: self.files() >= WORKERS and len(self.workers()) == WORKERS), self.log()
        return self

    def newest(self, count):
        """The process id of the worker that is ready since last; None before `count` of them were."""
        ready = re.findall(r"^ready (\d+)$", self.log(), re.MULTILINE)
        return int(ready[-1]) if len(ready) >= count else None

    def files(self):
        return len(list(self.counts.glob("counter_*.db")))

    def get(self, path, **headers):
        return requests.get(
            f"http://127.0.0.1:{self.port}{path}", headers=headers | {"Connection": "close"}, timeout=10
        )

    def ask_each(self, path, times):
        """The same number of requests to each worker, while the others stand still."""
        workers = self.workers()
        for worker in workers:
            others = workers - {worker}
            for other in others:
                os.kill(other, signal.SIGSTOP)
            assert eventually(lambda others=others: all(is_stopped(each) for each in others))
            try:
                for _ in range(times):
                    assert self.get(path).status_code == 200
            finally:
                for other in others:
                    os.kill(other, signal.SIGCONT)

    def scrape(self):
        """All samples by name and labels, as a monitoring system reads them."""
        text = requests.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10).text
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def ask(self):
        """What the metrics' port answers, to the end."""
        with socket.create_connection(("127.0.0.1", self.metrics_port), timeout=10) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return connection.makefile("rb").read()

    def visits(self):
        """How many requests without a session the node has seen."""
        return self.scrape()["anynode_sessions_requests_total", "none"]


def is_stopped(pid):
    return re.search(r"^State:\s+T", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
