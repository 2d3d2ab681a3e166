"""A real gunicorn with the rendered gunicorn.conf.py: a scrape counts the requests of all its workers."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from lib.ansible_runs import Cluster, render
from lib.cluster import eventually
from lib.demo_app import PASSWORD, USER, environ
from lib.redis_server import RedisServer, free_port
from lib.rendered_gunicorn import PACKAGES, RUNTIME, WORKERS, Node

StartNode = Callable[..., Node]


def shop(folder: Path) -> dict[str, str]:
    """Return options of a node with the smallest app."""
    (folder / "shop.py").write_text("def app(environ, start):\n    start('200 OK', [])\n    return [b'shop']\n")
    return {"app": "shop:app", "packages": str(folder)}


def open_files(pid: int) -> list[str]:
    return [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The files of a node with a free port for its metrics."""
    cluster: Cluster = render(tmp_path_factory.mktemp("rendered"), 1, app_workers=WORKERS, app_metrics_port=free_port())
    return cluster


@pytest.fixture(scope="module")
def metrics_port(rendered: Cluster) -> int:
    found = re.search(r"^METRICS_PORT = (\d+)$", rendered.text("app1/gunicorn.conf.py"), re.MULTILINE)
    assert found
    return int(found[1])


@pytest.fixture
def start(rendered: Cluster, metrics_port: int, tmp_path: Path) -> Iterator[StartNode]:
    """Starts a node, with `more` configuration, and stops it at the end."""
    nodes: list[Node] = []

    def start_node(more: str = "", **options: Any) -> Node:
        config = tmp_path / "gunicorn.conf.py"
        config.write_text(rendered.text("app1/gunicorn.conf.py") + more)
        nodes.append(Node(config, metrics_port, tmp_path, **options))
        return nodes[-1]

    yield start_node
    for node in nodes:
        node.stop()


@pytest.fixture
def node(start: StartNode) -> Node:
    return start().wait()


def test_a_scrape_adds_up_the_counts_of_all_workers(node: Node) -> None:
    assert node.requests_without_session() == 0
    node.request_each("/", 5)
    assert node.requests_without_session() == 5 * WORKERS


def test_a_worker_that_dies_loses_no_count_and_leaves_no_file(node: Node) -> None:
    node.request_each("/", 2)

    def is_replaced(workers: set[int]) -> bool:
        return len(node.workers() | workers) == WORKERS + 1

    for _ in range(2):
        workers = node.workers()
        os.kill(min(workers), signal.SIGKILL)
        assert eventually(partial(is_replaced, workers))
        assert eventually(lambda: len(node.workers()) == WORKERS)
    assert node.requests_without_session() == 2 * WORKERS
    assert eventually(lambda: node.log().count("Booting worker") == WORKERS + 2)
    node.request_each("/", 3)
    assert node.requests_without_session() == 5 * WORKERS
    assert node.files() == WORKERS


def test_a_file_that_a_worker_has_created_and_not_yet_filled_is_no_count(node: Node) -> None:
    node.request_each("/", 1)
    (node.counts / "counter_1-1.db").touch()
    assert node.requests_without_session() == WORKERS


def test_new_workers_count_beside_old_workers_that_still_serve(node: Node) -> None:
    node.request_each("/", 2)
    before = node.workers()
    node.master.send_signal(signal.SIGHUP)
    assert eventually(lambda: len(node.workers()) == WORKERS and not node.workers() & before, 30)
    assert node.requests_without_session() == 2 * WORKERS
    node.request_each("/", 2)
    assert node.requests_without_session() == 4 * WORKERS
    assert node.files() == 2 * WORKERS


def test_counts_of_the_session_store_come_from_redis(start: StartNode, tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    redis = RedisServer(tmp_path / "redis").start()
    try:
        node = start(redis_port=redis.port).wait()
        account = {"username": USER, "password": PASSWORD}
        login = requests.post(f"http://127.0.0.1:{node.port}/api/login", json=account, timeout=10)
        session = str(login.cookies["session"])
        cookie = f"session={session}"
        for _ in range(4):
            assert node.get("/api/session", Cookie=cookie).status_code == 200
        seen = node.scrape()
        assert seen["anynode_sessions_logins_total",] == 1
        assert seen["anynode_sessions_requests_total", "found"] == 4
        assert seen["anynode_sessions_store_seconds_count", "read"] == 4
        assert seen["anynode_sessions_store_seconds_bucket", "+Inf", "read"] == 4
        command = [sys.executable, "-m", "flask", "--app", "anynode", "sessions", "end-user", USER]
        subprocess.run(command, env=node.settings, check=True)
        assert node.scrape()["anynode_sessions_ended_total", "admin"] == 1
        assert not any(session in label for labels in seen for label in labels)
    finally:
        redis.kill()


def test_the_port_of_the_app_answers_no_scrapes(node: Node) -> None:
    assert node.get("/metrics").status_code == 404


def test_only_the_master_listens_for_scrapes(node: Node) -> None:
    """A worker that outlives the master would otherwise accept scrapes and never answer them."""
    listening = rf":{node.metrics_port:04X} \S+ 0A " + r"(?:\S+ +){5}(\d+)"
    (inode,) = re.findall(listening, Path("/proc/net/tcp").read_text())
    having = {pid for pid in {node.master.pid, *node.workers()} if f"socket:[{inode}]" in open_files(pid)}
    assert having == {node.master.pid}


def test_a_silent_client_does_not_block_other_scrapes(node: Node) -> None:
    with socket.create_connection(("127.0.0.1", node.metrics_port)):
        assert node.requests_without_session() == 0


def test_a_port_in_use_is_logged_and_bound_once_it_is_free(start: StartNode, metrics_port: int) -> None:
    with socket.create_server(("127.0.0.1", metrics_port)):
        node = start().wait()
        assert node.get("/").status_code == 200
        assert eventually(lambda: "Address already in use" in node.log())
    assert eventually(lambda: "metrics: answered at" in node.log(), 20)
    assert node.requests_without_session() == 1


def test_an_app_without_prometheus_client_is_served(start: StartNode, tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError\n")
    node = start(**shop(tmp_path))
    assert eventually(lambda: node.log().count("Booting worker") == WORKERS), node.log()
    assert node.get("/").text == "shop"
    assert node.log().count("metrics: none, the app has no prometheus-client") == 1
    with pytest.raises(requests.ConnectionError):
        node.scrape()


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1", ""), ("::1", ""), ("localhost", "does not appear to be an IPv4 or IPv6")],
)
def test_only_an_ip_address_passes_the_pre_deploy_check(
    rendered: Cluster, metrics_port: int, tmp_path: Path, address: str, message: str
) -> None:
    """The check runs while the active app holds the port, without the directory of counts."""
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(rendered.text("app1/gunicorn.conf.py").replace('"127.0.0.1"', f'"{address}"'))
    shutil.copy(RUNTIME, tmp_path)
    command = [sys.executable, "-m", "gunicorn", "--check-config", "--config", str(config), "anynode:create_app()"]
    settings = environ(PYTHONPATH=PACKAGES)
    with socket.create_server(("127.0.0.1", metrics_port)):
        done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == bool(message), done.stderr
    assert message in done.stderr


def test_the_unit_empties_the_directory_of_counts_at_each_start(rendered: Cluster) -> None:
    lines = rendered.text("app1/anynode.service").splitlines()
    assert "RuntimeDirectory=anynode" in lines
    assert "Environment=PROMETHEUS_MULTIPROC_DIR=%t/anynode" in lines
    assert not [line for line in lines if line.startswith("RuntimeDirectoryPreserve")]


def test_port_0_switches_metrics_off(tmp_path: Path) -> None:
    cluster = render(tmp_path, 1, app_metrics_port=0)
    assert "prometheus" not in cluster.text("app1/gunicorn.conf.py").lower()
    assert "PROMETHEUS" not in cluster.text("app1/anynode.service")


READY = """
def post_worker_init(worker):
    print(f"ready {worker.pid}", flush=True)
"""

# During its work the thread holds a lock that a worker needs at its start, like a lock of the log or of an import.
HOLD = """
import os
import threading
from pathlib import Path

needed = threading.Lock()
requested, forked = threading.Event(), threading.Event()
os.register_at_fork(after_in_parent=lambda: (requested.clear(), forked.set()))
name_files, start_counting = pre_fork, post_fork


def hold(*_):
    with needed:
        Path("held").touch()
        requested.wait(10)
        forked.wait(0.1)  # set immediately, unless the fork waits
    return ()


def pre_fork(server, worker):
    name_files(server, worker)
    forked.clear()
    requested.set()


def post_fork(server, worker):
    with needed:
        start_counting(server, worker)
"""

SCRAPE = """
class Held:
    collect = hold


runtime.Handler.registry.register(Held())
"""

FAILURE = """
import socketserver
socketserver.BaseServer.handle_error = hold
runtime.Handler.registry = None
"""

LINE = """
import logging


class Held(logging.LogRecord):
    def getMessage(self):
        if self.threadName == "metrics":
            hold()
        return super().getMessage()


logging.setLogRecordFactory(Held)
"""


@pytest.mark.parametrize(
    ("work", "times", "response"),
    [(SCRAPE, 20, b"HTTP/1.0 200 OK\r\n"), (FAILURE, 1, b""), (LINE, 1, b"HTTP/1.0 200 OK\r\n")],
    ids=["scrape", "failure", "line"],
)
def test_no_worker_is_forked_while_the_thread_works(
    start: StartNode, tmp_path: Path, work: str, times: int, response: bytes
) -> None:
    """The worker might never start, nor react to SIGTERM."""
    node = start(more=READY + HOLD + work, **shop(tmp_path))
    held = tmp_path / "held"
    with ThreadPoolExecutor() as scrapers:
        for count in range(WORKERS, WORKERS + times):
            newest = eventually(partial(node.newest, count))
            assert newest, node.log()
            scrape = scrapers.submit(node.raw_scrape)
            assert eventually(held.exists), node.log()
            held.unlink()
            os.kill(newest, signal.SIGTERM)
            assert eventually(partial(node.newest, count + 1)), node.log()
            assert newest not in node.workers()
            assert scrape.result(10).startswith(response)


# The thread waits for a slow client; the response is larger than the buffers of the kernel.
SLOW = """
from pathlib import Path
from prometheus_client import Metric


class Much:
    def collect(self):
        return [Metric("much", "x" * 50_000_000, "gauge")]


class Handler(runtime.Handler):
    timeout = 600

    def setup(self):
        super().setup()
        Path("requested").touch()


runtime.Handler = Handler
Handler.registry.register(Much())
"""


@pytest.mark.parametrize("sent", [b"GET /metr", b"GET /metrics HTTP/1.0\r\n\r\n"], ids=["slow to send", "slow to read"])
def test_a_fork_does_not_wait_for_a_client_that_is(start: StartNode, tmp_path: Path, sent: bytes) -> None:
    node = start(more=READY + SLOW, **shop(tmp_path))
    newest = eventually(lambda: node.newest(WORKERS))
    assert newest, node.log()
    with socket.create_connection(("127.0.0.1", node.metrics_port)) as scraper:
        scraper.sendall(sent)
        assert eventually((tmp_path / "requested").exists), node.log()
        os.kill(newest, signal.SIGKILL)
        assert eventually(lambda: node.newest(WORKERS + 1)), node.log()
