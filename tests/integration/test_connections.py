"""Commands over connections that are kept at hand: each gets its own answer, whatever happened before."""

import ctypes
import errno
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from unittest.mock import Mock

import pytest
from anynode.sessions import connections
from anynode.sessions.connections import Connections
from lib.redis_server import REDIS_PASSWORD
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
def pool(own_redis):
    return BlockingConnectionPool(port=own_redis.port, max_connections=8, timeout=0.3, **OPTIONS)


def sentinel_pool(port):
    sentinel = Mock(discover_master=lambda name: ("127.0.0.1", port))
    return SentinelConnectionPool("sessions", sentinel, **OPTIONS)


@pytest.fixture
def at_hand(pool):
    return Connections(pool)


def number(at_hand) -> int:
    """Of the connection that is used next."""
    return at_hand.execute("CLIENT", "ID")


def take(pool, count):
    """Raises ConnectionError if there aren't so many connections free."""
    for connection in [pool.get_connection() for _ in range(count)]:
        pool.release(connection)


def test_a_connection_is_used_again_also_after_an_error_that_redis_answered(at_hand):
    first = number(at_hand)
    with pytest.raises(ResponseError):
        at_hand.execute("NONSENSE")
    assert number(at_hand) == first


def test_a_late_answer_is_nobodys(own_redis):
    at_hand = Connections(
        sentinel_pool(own_redis.port)
    )  # unlike others, Sentinel's connections stay open after a timeout
    at_hand.execute("ECHO", "first")
    own_redis.pause()
    try:
        with pytest.raises(TimeoutError):
            at_hand.execute("ECHO", "late")
    finally:
        own_redis.resume()
    assert at_hand.execute("ECHO", "mine") == b"mine"


def test_an_interrupted_command_leaves_no_answer_behind_and_its_place_to_others(at_hand, pool, monkeypatch):
    number(at_hand)
    monkeypatch.setattr(Connection, "read_response", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        at_hand.execute("ECHO", "interrupted")
    monkeypatch.undo()
    assert at_hand.execute("ECHO", "mine") == b"mine"
    take(pool, 7)


def test_connections_that_redis_closed_while_idle_are_noticed(at_hand, own_redis, monkeypatch):
    monkeypatch.setattr(connections, "_FRESH_SECONDS", 0)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: at_hand.execute("BLPOP", "nothing", "0.1"), range(4)))
    own_redis.admin.client_kill_filter(_type="normal", skipme=True)
    assert at_hand.execute("ECHO", "mine") == b"mine"


def test_when_one_has_broken_the_others_at_hand_are_not_tried(at_hand, own_redis, monkeypatch):
    monkeypatch.setattr(connections, "_FRESH_SECONDS", 60)  # as if no word had come that they are closed
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: at_hand.execute("BLPOP", "nothing", "0.1"), range(2)))
    own_redis.admin.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(BrokenConnection):
        at_hand.execute("ECHO", "lost")
    assert at_hand.execute("ECHO", "mine") == b"mine"


def test_most_connections_of_the_pool_are_left_to_others(at_hand, pool):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: at_hand.execute("BLPOP", "nothing", "0.1"), range(8)))
    take(pool, 6)


def test_a_forked_process_uses_connections_of_its_own(at_hand):
    mine = number(at_hand)
    reader, writer = socket.socketpair()
    child = os.fork()
    if not child:
        writer.send(str(number(at_hand)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(reader.recv(20)) != mine
    assert number(at_hand) == mine
    reader.close()
    writer.close()


def test_a_new_master_that_sentinel_names_is_found(own_redis, redis):
    pool = sentinel_pool(own_redis.port)
    at_hand = Connections(pool)
    at_hand.execute("ECHO", "there")
    pool.sentinel_manager.discover_master = lambda name: ("127.0.0.1", redis.port)
    pool.disconnect()
    at_hand.execute("SET", "a", 1, "EX", 60)
    assert redis.admin.get("a") == "1"


@pytest.mark.parametrize("broken_at", ["send_command", "read_response", "can_read", "connect"])
def test_a_broken_connection_leaves_no_error_of_openssl_behind(at_hand, pool, monkeypatch, broken_at):
    """Python since 3.13 would take it for that of the thread's next read that has to wait, and of all after it."""
    openssl = ctypes.CDLL("libcrypto.so.3")
    openssl.ERR_peek_error.restype = ctypes.c_ulong

    def breaks(*args, **options):
        openssl.ERR_new()
        openssl.ERR_set_error(2, errno.EPIPE, None)  # 2: an error of the system
        assert openssl.ERR_peek_error()
        raise BrokenConnection

    monkeypatch.setattr(connections, "_FRESH_SECONDS", 0)
    if broken_at != "connect":
        number(at_hand)
    with monkeypatch.context() as patched, suppress(BrokenConnection):
        patched.setattr(Connection, broken_at, breaks)
        at_hand.execute("ECHO", "lost")
    assert openssl.ERR_peek_error() == 0
