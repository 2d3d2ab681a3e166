"""The TLS benchmark runs, and verifies the certificates of both servers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask_shared_session import SessionStoreError, redis_client
from lib.ansible_runs import Cluster, render
from lib.certificates import Authority

from bench.tls import run
from bench.tls.hops import TIMEOUT_SECONDS, start_redis, to_app, to_redis


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    return render(tmp_path_factory.mktemp("cluster"), 1, **run.VARIABLES)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    """Stops the servers that a test starts; timeouts are as long as in the benchmark."""
    monkeypatch.setattr(redis_client, "TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def issue_invalid(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the authority issue certificates for another host."""
    issue = authority.issue
    return lambda: monkeypatch.setattr(authority, "issue", lambda *_names, **options: issue("elsewhere", **options))


def test_each_operation_is_measured_with_and_without_tls(
    cluster: Cluster, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "render", lambda *_, **__: cluster)
    run.main(1, 0.01)
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "(" in line and "|" in line]
    assert len(lines) == 6
    assert all(len(line) == 7 and float(line[1].split()[0]) > 0 for line in lines)


def test_redis_is_verified(
    authority: Authority, issue_invalid: Callable[[], None], stack: ExitStack, tmp_path: Path
) -> None:
    issue_invalid()
    servers = start_redis(stack, tmp_path, authority)
    with pytest.raises(SessionStoreError):
        to_redis(servers, authority)


def test_the_node_is_verified(
    cluster: Cluster, authority: Authority, issue_invalid: Callable[[], None], stack: ExitStack, tmp_path: Path
) -> None:
    servers = start_redis(stack, tmp_path, authority)
    issue_invalid()
    with pytest.raises(SystemExit, match=r"(?s)/healthz: 503 .*Nothing was measured"):
        to_app(stack, tmp_path, cluster, servers[1], authority)
