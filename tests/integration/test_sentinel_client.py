"""A primary, its replicas, and Sentinel."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask_shared_session import RedisStore, Session, SessionStoreError
from flask_shared_session.redis_client import client_of
from flask_shared_session.settings import RedisURL
from lib.redis_server import PREFIX, REDIS_PASSWORD, RedisServer, free_port
from lib.sentinels import SERVICE, replicated, sentinels
from redis import Redis, ResponseError
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoReply

pytestmark = pytest.mark.every_server


@pytest.fixture
def trio(server_name: str, tmp_path: Path) -> Iterator[list[RedisServer]]:
    """A primary and its two replicas."""
    # a primary without replicas may have been replaced: it must not accept writes, which would be lost
    with replicated(tmp_path, server_name, "--min-replicas-to-write 1") as servers:
        yield servers


@pytest.fixture
def sentinel(trio: list[RedisServer], server_name: str, tmp_path: Path) -> Iterator[Redis]:
    """A client of the Sentinel."""
    with sentinels(tmp_path, server_name, trio[0].port) as (client,):
        yield client


Make = Callable[[int], RedisStore]


@pytest.fixture
def make(sentinel: Redis, long_timeouts: None) -> Make:
    """Make a store by the URL, with a second Sentinel that is away. Takes the number of replicas to wait for."""

    def make(acknowledge: int) -> RedisStore:
        port = sentinel.get_connection_kwargs()["port"]
        url = f"redis+sentinel://app:{REDIS_PASSWORD}@127.0.0.1:{free_port()},127.0.0.1:{port}/{SERVICE}"
        client = client_of(RedisURL.parse(url))
        return RedisStore(client, prefix=PREFIX, idle=100, lifetime=1000, acknowledge=acknowledge)

    return make


@pytest.fixture
def store(make: Make) -> RedisStore:
    return make(0)


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


def test_sessions_survive_a_failover(store: RedisStore, sentinel: Redis, trio: list[RedisServer]) -> None:
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


def test_what_no_replica_has_received_is_not_acknowledged(make: Make, trio: list[RedisServer]) -> None:
    """A login, a rotation, and the end of sessions, also if it is repeated; reads and other writes need no replica."""
    _primary, *replicas = trio
    store = make(1)
    session_id = begin(make(0), a=1)
    for replica in replicas:
        replica.pause()
    try:
        for _ in range(2):
            with pytest.raises(SessionStoreError):
                begin(store, b=1)
            with pytest.raises(SessionStoreError):
                store.end_sessions("ada", but="x")
        session = Session(store, session_id)
        with pytest.raises(SessionStoreError):
            session.end()
        with pytest.raises(SessionStoreError):
            Session(store, session_id).end()
        with pytest.raises(SessionStoreError):
            store.end_everything()
        assert store.read(session_id) is None
        store.ping()
    finally:
        for replica in replicas:
            replica.resume()
    wait_until(lambda: begin(store, c=1))


def test_a_primary_of_before_is_not_used(store: RedisStore, sentinel: Redis, trio: list[RedisServer]) -> None:
    """Though Sentinel still reports it: as a replica, it refuses the role."""
    primary, replica, _other = trio
    begin(store, a=1)
    primary.admin.replicaof("127.0.0.1", replica.port)
    with pytest.raises(SessionStoreError):
        begin(store, b=1)
