"""A primary, its replicas, and Sentinel."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask_shared_session import RedisStore, Session, SessionStoreError
from flask_shared_session.redis_client import client_options
from lib.redis_server import PREFIX, PROGRAMS, REDIS_PASSWORD, RedisServer, free_port
from redis import Redis, ResponseError
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoReply
from redis.sentinel import Sentinel

pytestmark = pytest.mark.every_server
SERVICE = "sessions"


@pytest.fixture
def trio(server_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, ...]]:
    """A primary and its two replicas."""
    options = f"--masteruser admin --masterauth {REDIS_PASSWORD} --repl-diskless-sync-delay 0"
    # a primary without replicas may have been replaced: it must not accept writes, which would be lost
    options += " --min-replicas-to-write 1"
    primary = RedisServer(tmp_path_factory.mktemp("primary"), server_name, options).start()
    options += f" --replicaof 127.0.0.1 {primary.port}"
    replicas = [RedisServer(tmp_path_factory.mktemp("replica"), server_name, options).start() for _ in range(2)]
    yield primary, *replicas
    for server in (primary, *replicas):
        server.kill()


@pytest.fixture
def sentinel(trio: tuple[RedisServer, ...], server_name: str, tmp_path: Path) -> Iterator[Redis]:
    """A client of the Sentinel."""
    port = free_port()
    (tmp_path / "sentinel.conf").write_text(
        f"""
        bind 127.0.0.1
        port {port}
        dir {tmp_path}
        sentinel monitor {SERVICE} 127.0.0.1 {trio[0].port} 1
        sentinel auth-user {SERVICE} admin
        sentinel auth-pass {SERVICE} {REDIS_PASSWORD}
        """
    )
    process = subprocess.Popen(
        [*PROGRAMS[server_name], tmp_path / "sentinel.conf", "--sentinel"], stdout=subprocess.DEVNULL
    )
    with Redis(port=port, decode_responses=True, **client_options()) as client:
        wait_until(lambda: [each["master-link-status"] for each in client.sentinel_slaves(SERVICE)] == ["ok", "ok"])
        yield client
    process.kill()
    process.wait()


@pytest.fixture
def store(sentinel: Redis) -> Iterator[RedisStore]:
    port = sentinel.get_connection_kwargs()["port"]
    finder = Sentinel([("127.0.0.1", port)], sentinel_kwargs=client_options())
    client = finder.master_for(SERVICE, username="app", password=REDIS_PASSWORD, **client_options())
    yield RedisStore(client, prefix=PREFIX, idle=100, lifetime=1000)
    client.close()


def wait_until(is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            if is_true():
                return
        except (ResponseError, NoConnection, NoReply, KeyError, SessionStoreError):  # not yet
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def begin(store: RedisStore, **values: Any) -> str:
    session = Session(store, None)
    session.update(values)
    session.log_in("ada")
    session.save()
    assert session.new_id
    return session.new_id


def test_all_steps_of_a_session(store: RedisStore) -> None:
    session = Session(store, begin(store, a=1))
    session.rotate()
    session.increment("n")
    session["b"] = 2
    session.save()
    assert dict(Session(store, session.new_id)) == {"a": 1, "b": 2, "n": 1}
    assert len(store.sessions_of("ada")) == 1
    session.end()
    assert store.sessions_of("ada") == []
    store.ping()


def test_sessions_survive_a_failover(store: RedisStore, sentinel: Redis, trio: tuple[RedisServer, ...]) -> None:
    primary, *replicas = trio
    kept, ended = begin(store, a=1), begin(store, a=2)
    Session(store, ended).end()
    with primary.admin.pipeline(transaction=False) as pipeline:
        pipeline.set(f"{PREFIX}last", "1", ex=100)
        pipeline.execute_command("WAIT", 2, 10_000)  # the replicas have this write, and so all earlier writes
        assert pipeline.execute()[1] == 2
    wait_until(lambda: sentinel.sentinel_failover(SERVICE))
    wait_until(lambda: primary_of(sentinel) != primary.port)
    (promoted,) = (each for each in replicas if each.port == primary_of(sentinel))
    began = time.monotonic()
    # until its last replica disconnects, the old primary may accept writes
    wait_until(lambda: Session(store, kept).increment("n") and promoted.admin.hexists(*promoted.session_keys(), "s:n"))
    assert time.monotonic() - began < 5
    assert Session(store, kept)["a"] == 1
    assert store.read(ended) is None


def primary_of(sentinel: Redis) -> int:
    address = sentinel.sentinel_get_master_addr_by_name(SERVICE)
    assert isinstance(address, tuple)
    return address[1]
