"""The parts that gunicorn.conf.py adds to gunicorn: responses in a single write, and counters for Prometheus.

The metrics work for any app that has prometheus-client: each worker counts in files of its own below
PROMETHEUS_MULTIPROC_DIR, and the master adds them up at each scrape, on a port of its own.
"""

import io
import ipaddress
import itertools
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

# gunicorn and prometheus-client have no types, or partial types: hence the `type: ignore` below.

try:
    from prometheus_client import CollectorRegistry, MetricsHandler, multiprocess, values
except ImportError:
    HAS_METRICS = False
else:
    HAS_METRICS = True

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class SingleWriteConnection:
    """A connection that delays its first write, the response headers, until the next write or any other use."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._delayed: bytes | None = None

    def sendall(self, data: bytes) -> None:
        if self._delayed is None:
            self._delayed = data
        else:
            delayed, self._delayed = self._delayed, b""
            self._connection.sendall(delayed + data)

    def __getattr__(self, name: str) -> Any:
        if self._delayed:
            self.sendall(b"")
        return getattr(self._connection, name)


class SingleWriteWorker(ThreadWorker):  # type: ignore[misc,unused-ignore]
    """Sends headers and body in one write.

    gunicorn sends headers and body in two writes. If the worker dies between them, nginx forwards a truncated response.
    If it dies before a single write, nginx has nothing yet and retries another node.
    """

    def handle_request(self, req: Any, conn: Any) -> Any:
        connection, conn.sock = conn.sock, SingleWriteConnection(conn.sock)
        try:
            return super().handle_request(req, conn)
        finally:
            conn.sock.fileno()  # sends the headers of a response without a body
            conn.sock = connection


# Held by the master's metrics thread while it works, and by the main thread while it forks. A worker that is forked
# while the metrics thread holds a lock (of the log, of an import) would wait for that lock forever and ignore SIGTERM.
# The thread doesn't hold it while it waits for a client: a fork waits for a sum of counters, never for a slow client.
fork_lock = threading.RLock()  # reentrant: the main thread also takes it in the before-fork hook


class MetricsServer(socketserver.TCPServer):
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        with fork_lock:
            super().handle_error(request, client_address)


if HAS_METRICS:

    class Collector(multiprocess.MultiProcessCollector):
        """Sums the files of all workers, except those that a worker has created and not yet filled.

        prometheus-client creates a file and then extends it; in between, its own collector fails at the empty file.
        """

        def collect(self) -> Iterable[Any]:
            files = [file for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("*.db") if _size(file)]
            return self.merge(map(str, files))  # type: ignore[no-untyped-call,unused-ignore]

    class Handler(MetricsHandler):
        """Answers a scrape. The response is complete before the first byte is sent."""

        registry = CollectorRegistry()
        timeout = 2  # seconds that a client may delay the next client

        def do_GET(self) -> None:
            connection, self.wfile = self.wfile, io.BytesIO()
            with fork_lock:
                super().do_GET()
            connection.write(self.wfile.getvalue())


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # of a worker that has just ended
        return 0


def start_metrics(server: Any, address: Address, port: int) -> None:
    """Answer scrapes at an address and port from a thread of the master `server`; for gunicorn's hook when_ready."""
    if not HAS_METRICS:
        server.log.warning("metrics: none, the app has no prometheus-client")
        return
    Collector(Handler.registry)  # type: ignore[no-untyped-call,unused-ignore]
    # The socket is created before the first fork, so that each worker can close its inherited copy.
    MetricsServer.address_family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    server.metrics = MetricsServer((str(address), port), Handler, bind_and_activate=False)
    os.register_at_fork(before=fork_lock.acquire, after_in_parent=fork_lock.release, after_in_child=fork_lock.release)
    threading.Thread(target=_answer_scrapes, args=(server,), name="metrics", daemon=True).start()


def _answer_scrapes(server: Any) -> None:
    # The app must serve even if the port is in use or the address isn't configured yet.
    log = server.log.error
    while not _bind(server, log):
        log = server.log.debug
        time.sleep(5)
    server.metrics.serve_forever(poll_interval=60)


def _bind(server: Any, log: Any) -> bool:
    address, port = server.metrics.server_address[:2]
    with fork_lock:
        try:
            server.metrics.server_bind()
            server.metrics.server_activate()
        except OSError as error:
            log("metrics: %s, port %s: %s; retrying every 5 s", address, port, error)
            return False
        server.log.info("metrics: answered at %s, port %s", address, port)
        return True


def pre_fork(server: Any, worker: Any) -> None:
    """Name the worker's files. A worker that replaces a dead one continues its files, so their number is bounded."""
    if HAS_METRICS:
        used = {each.metrics_name for each in server.WORKERS.values()}
        names = (f"{server.pid}-{number}" for number in itertools.count())
        worker.metrics_name = next(name for name in names if name not in used)


def post_fork(server: Any, worker: Any) -> None:
    """Let the worker count in its files, and close its copy of the metrics socket, which is the master's alone."""
    if HAS_METRICS:
        value_class = values.MultiProcessValue(lambda: worker.metrics_name)  # type: ignore[no-untyped-call,unused-ignore]
        values.ValueClass = value_class
        server.metrics.socket.close()


def child_exit(_server: Any, worker: Any) -> None:
    """Drop the gauges of live processes that the worker had, if the app has any."""
    if HAS_METRICS:
        multiprocess.mark_process_dead(worker.metrics_name)  # type: ignore[no-untyped-call,unused-ignore]
