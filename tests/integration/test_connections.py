"""Cached connections: each command gets its own reply, even after failures of earlier commands."""

import ctypes
import errno
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import pytest
from flask_shared_session import SessionStoreError, connections
from flask_shared_session.connections import Connections
from lib.demo_app import redis_store
from lib.redis_server import REDIS_PASSWORD, RedisServer
from redis import BlockingConnectionPool, Connection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as BrokenConnection
from redis.exceptions import ResponseError, TimeoutError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

OPTIONS = {
    "username": "admin",
    "password": REDIS_PASSWORD,
    "socket_timeout": 0.3,
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
    "driver_info": None,
}


@pytest.fixture
def pool(own_redis: RedisServer) -> BlockingConnectionPool:
    return BlockingConnectionPool(port=own_redis.port, max_connections=8, timeout=0.3, **OPTIONS)


def sentinel_pool(port: int) -> SentinelConnectionPool:
    sentinel = Mock(discover_master=lambda name: ("127.0.0.1", port))
    return SentinelConnectionPool("sessions", sentinel, **OPTIONS)


@pytest.fixture
def cached(pool: BlockingConnectionPool) -> Connections:
    return Connections(pool)


def number(cached: Connections) -> int:
    """The server's number of the next connection."""
    return int(cached.execute("CLIENT", "ID"))


def take(pool: BlockingConnectionPool, count: int) -> None:
    """Take and release so many connections. Raises ConnectionError if fewer are free."""
    for connection in [pool.get_connection() for _ in range(count)]:
        pool.release(connection)


def test_a_connection_is_reused_after_an_error_reply(cached: Connections) -> None:
    first = number(cached)
    with pytest.raises(ResponseError):
        cached.execute("NONSENSE")
    assert number(cached) == first


def test_a_late_reply_is_discarded(own_redis: RedisServer) -> None:
    # unlike others, Sentinel's connections stay open after a timeout
    cached = Connections(sentinel_pool(own_redis.port))
    cached.execute("ECHO", "first")
    own_redis.pause()
    try:
        with pytest.raises(TimeoutError):
            cached.execute("ECHO", "late")
    finally:
        own_redis.resume()
    assert cached.execute("ECHO", "mine") == b"mine"


def test_an_interrupted_command_leaves_no_reply_and_frees_its_connection(
    cached: Connections, pool: BlockingConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    number(cached)
    monkeypatch.setattr(Connection, "read_response", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cached.execute("ECHO", "interrupted")
    monkeypatch.undo()
    assert cached.execute("ECHO", "mine") == b"mine"
    take(pool, 7)


def test_connections_closed_while_idle_are_detected(
    cached: Connections, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_FRESH_SECONDS", 0)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: cached.execute("BLPOP", "nothing", "0.1"), range(4)))
    own_redis.admin.client_kill_filter(_type="normal", skipme=True)
    assert cached.execute("ECHO", "mine") == b"mine"


def test_after_a_broken_connection_the_cached_connections_are_dropped(
    cached: Connections, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_FRESH_SECONDS", 60)  # as if the close had not arrived yet
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: cached.execute("BLPOP", "nothing", "0.1"), range(2)))
    own_redis.admin.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(BrokenConnection):
        cached.execute("ECHO", "lost")
    assert cached.execute("ECHO", "mine") == b"mine"


def test_most_connections_stay_in_the_pool(cached: Connections, pool: BlockingConnectionPool) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: cached.execute("BLPOP", "nothing", "0.1"), range(8)))
    take(pool, 6)


def test_a_forked_process_uses_its_own_connections(cached: Connections) -> None:
    mine = number(cached)
    reader, writer = socket.socketpair()
    child = os.fork()
    if not child:
        writer.send(str(number(cached)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(reader.recv(20)) != mine
    assert number(cached) == mine
    reader.close()
    writer.close()


def test_a_new_primary_of_sentinel_is_used(own_redis: RedisServer, redis: RedisServer) -> None:
    pool = sentinel_pool(own_redis.port)
    cached = Connections(pool)
    cached.execute("ECHO", "there")
    pool.sentinel_manager.discover_master = lambda name: ("127.0.0.1", redis.port)
    pool.disconnect()
    cached.execute("SET", "a", 1, "EX", 60)
    assert redis.admin.get("a") == "1"


@pytest.mark.parametrize("broken_at", ["send_command", "read_response", "can_read", "connect"])
def test_a_broken_connection_leaves_no_openssl_error(
    cached: Connections, pool: BlockingConnectionPool, monkeypatch: pytest.MonkeyPatch, broken_at: str
) -> None:
    """Since Python 3.13, the thread's next read that has to wait would fail with it, and all later reads."""
    openssl = ctypes.CDLL("libcrypto.so.3")
    openssl.ERR_peek_error.restype = ctypes.c_ulong

    def breaks(*args: object, **options: object) -> None:
        openssl.ERR_new()
        openssl.ERR_set_error(2, errno.EPIPE, None)  # 2: a system error
        assert openssl.ERR_peek_error()
        raise BrokenConnection

    monkeypatch.setattr(connections, "_FRESH_SECONDS", 0)
    if broken_at != "connect":
        number(cached)
    with monkeypatch.context() as patched, suppress(BrokenConnection):
        patched.setattr(Connection, broken_at, breaks)
        cached.execute("ECHO", "lost")
    assert openssl.ERR_peek_error() == 0


def test_waiting_for_a_free_connection_is_no_failure_of_the_server(own_redis: RedisServer) -> None:
    """Many greenlets may wait at once; the circuit breaker would then refuse all of them though Redis answers."""
    store = redis_store(own_redis)
    pool: Any = store._client.connection_pool  # type: ignore[union-attr]
    taken = [pool.get_connection() for _ in range(pool.max_connections)]
    pool.timeout = 0.01
    for _ in range(10):
        with pytest.raises(SessionStoreError):
            store.ping()
    for connection in taken:
        pool.release(connection)
    store.ping()
