"""The runtime of gunicorn without a server: writes, and the names of the files that workers count in."""

from types import SimpleNamespace
from typing import Any

import pytest
from lib.ansible_runs import load_module

runtime = load_module("roles/app/files/gunicorn_runtime.py")


class Connection:
    """Records its writes."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.writes.append(data)

    def fileno(self) -> int:
        return 7


def test_headers_and_body_are_a_single_write() -> None:
    connection = Connection()
    single = runtime.SingleWriteConnection(connection)
    single.sendall(b"headers ")
    assert connection.writes == []
    single.sendall(b"body ")
    assert connection.writes == [b"headers body "]
    single.sendall(b"more")
    assert connection.writes == [b"headers body ", b"more"]


def test_headers_without_a_body_are_sent_at_the_next_use_of_the_connection() -> None:
    connection = Connection()
    single = runtime.SingleWriteConnection(connection)
    single.sendall(b"headers")
    assert single.fileno() == 7
    assert single.fileno() == 7
    assert connection.writes == [b"headers"]


def test_a_new_worker_continues_the_files_of_a_dead_one() -> None:
    workers: dict[int, Any] = {}
    server = SimpleNamespace(pid=10, WORKERS=workers)
    for number in range(3):
        workers[number] = SimpleNamespace()
        others = {key: worker for key, worker in workers.items() if key != number}
        runtime.pre_fork(SimpleNamespace(pid=10, WORKERS=others), workers[number])
    assert [worker.metrics_name for worker in workers.values()] == ["10-0", "10-1", "10-2"]
    del workers[1]
    worker = SimpleNamespace()
    runtime.pre_fork(server, worker)
    assert worker.metrics_name == "10-1"


def test_without_prometheus_client_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "HAS_METRICS", False)
    warnings: list[str] = []
    server = SimpleNamespace(log=SimpleNamespace(warning=warnings.append))
    runtime.start_metrics(server, runtime.ipaddress.ip_address("127.0.0.1"), 9464)
    assert warnings == ["metrics: none, the app has no prometheus-client"]
    for hook in (runtime.pre_fork, runtime.post_fork, runtime.child_exit):
        hook(server, SimpleNamespace())
