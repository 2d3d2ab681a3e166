"""Sends commands over a redis-py client's connections, with few layers in between."""

from contextlib import suppress
from os import getpid
from ssl import PROTOCOL_TLS_CLIENT, SSLContext, SSLError
from time import monotonic
from typing import Any, Protocol

from redis.exceptions import ConnectionError as BrokenConnection
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

# A Redis that has closed a connection is not back so soon, so it doesn't matter who finds that out.
_FRESH_SECONDS = 0.1
_NO_SERVER = SSLContext(PROTOCOL_TLS_CLIENT)


class Connection(Protocol):
    """What is needed of redis-py's connections, which have no types."""

    @property
    def is_connected(self) -> bool: ...
    def send_command(self, *command: str | int) -> None: ...
    def read_response(self) -> Any: ...
    def can_read(self) -> bool: ...
    def should_reconnect(self) -> bool: ...
    def disconnect(self) -> None: ...


class Pool(Protocol):
    """What is needed of its pools."""

    max_connections: int

    def get_connection(self) -> Connection: ...
    def release(self, connection: Any) -> None: ...


class Connections:
    """Keeps a few connections of a client's pool at hand, in a plain list.

    redis-py's pool, retries and telemetry take as much CPU time for each command as sending it and reading the answer.
    """

    def __init__(self, pool: Pool):
        self._pool = pool
        self._most = pool.max_connections // 4  # the rest is for whoever else uses the client
        self._at_hand: list[tuple[Connection, float]] = []  # append() and pop() are atomic, so it needs no lock
        self._process = getpid()

    def execute(self, *command: str | int) -> Any:
        """What Redis answers. Raises RedisError, and never sends a command twice."""
        connection = self._take()
        try:
            connection.send_command(*command)
            reply = connection.read_response()
        except ResponseError as error:
            if isinstance(error, ReadOnlyError) or "NOREPLICAS" in str(error):
                self._drop(connection)  # who took its place, Sentinel or the host's name tells those who connect anew
            else:
                self._put_back(connection)
            raise
        except BaseException as error:
            self._drop(connection)  # the answer may still come, and must not become that of another command
            if isinstance(error, BrokenConnection):
                self._drop_all()
            raise
        self._put_back(connection)
        return reply

    def _take(self) -> Connection:
        if self._process != getpid():  # forked: what is at hand is the parent's
            self._at_hand, self._process = [], getpid()
        while True:
            try:
                connection, since = self._at_hand.pop()
            except IndexError:
                return self._connect()
            if connection.is_connected and (monotonic() - since < _FRESH_SECONDS or _is_open(connection)):
                return connection
            self._drop(connection)

    def _connect(self) -> Connection:
        try:
            return self._pool.get_connection()
        except BaseException:
            _forget_tls_errors()
            raise

    def _put_back(self, connection: Connection) -> None:
        if len(self._at_hand) < self._most and not connection.should_reconnect():
            self._at_hand.append((connection, monotonic()))
        else:
            self._pool.release(connection)

    def _drop_all(self) -> None:
        """Those at hand have most likely broken with it, and each would cost one more visitor the answer."""
        with suppress(IndexError):
            while True:
                self._drop(self._at_hand.pop()[0])

    def _drop(self, connection: Connection) -> None:
        _forget_tls_errors()
        connection.disconnect()
        self._pool.release(connection)


def _is_open(connection: Connection) -> bool:
    """Whether it is open, and nothing came that nobody asked for."""
    try:
        return not connection.can_read()
    except (RedisError, OSError):
        return False


def _forget_tls_errors() -> None:
    """Empty this thread's queue of OpenSSL's errors; takes some 15 microseconds.

    Python leaves those of a broken connection there (https://github.com/python/cpython/issues/148594), and one would be
    taken for that of each later read that has to wait, on any connection, until the process ends. A list that selects
    no cipher changes nothing, and is the one public call that empties the queue.
    """
    with suppress(SSLError):
        _NO_SERVER.set_ciphers("NONE-SUCH")
