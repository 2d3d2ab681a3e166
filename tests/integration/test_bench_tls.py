"""The TLS benchmark runs, and verifies the certificates of both servers."""

from contextlib import ExitStack

import pytest
from anynode import redis_client
from anynode.sessions import SessionStoreError
from lib.ansible_runs import render
from lib.certificates import Authority

from bench.tls import run
from bench.tls.hops import TIMEOUT_SECONDS, start_redis, to_app, to_redis


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    return render(tmp_path_factory.mktemp("cluster"), 1, **run.VARIABLES)


@pytest.fixture
def stack(monkeypatch):
    """Stops the servers that a test starts; timeouts are as long as in the benchmark."""
    monkeypatch.setattr(redis_client, "TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def issue_invalid(authority, monkeypatch):
    """Makes the authority issue certificates for another host."""
    issue = authority.issue
    return lambda: monkeypatch.setattr(authority, "issue", lambda *_names, **options: issue("elsewhere", **options))


def test_each_operation_is_measured_with_and_without_tls(cluster, stack, monkeypatch, capsys) -> None:
    monkeypatch.setattr(run, "render", lambda *_, **__: cluster)
    run.main(1, 0.01)
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "(" in line and "|" in line]
    assert len(lines) == 6
    assert all(len(line) == 7 and float(line[1].split()[0]) > 0 for line in lines)


def test_redis_is_verified(authority, issue_invalid, stack, tmp_path) -> None:
    issue_invalid()
    servers = start_redis(stack, tmp_path, authority)
    with pytest.raises(SessionStoreError):
        to_redis(servers, authority)


def test_the_node_is_verified(cluster, authority, issue_invalid, stack, tmp_path) -> None:
    servers = start_redis(stack, tmp_path, authority)
    issue_invalid()
    with pytest.raises(SystemExit, match=r"(?s)/healthz: 503 .*Nothing was measured"):
        to_app(stack, tmp_path, cluster, servers[1], authority)
