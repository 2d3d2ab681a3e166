"""Sends commands over the connections of a redis-py client, without its overhead."""

from collections.abc import Sequence
from contextlib import suppress
from os import getpid
from ssl import PROTOCOL_TLS_CLIENT, SSLContext, SSLError
from time import monotonic
from typing import Any, Protocol

from redis.exceptions import ConnectionError as BrokenConnection
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

# A server that closes a connection isn't back within this time, so testing the connection would save no request.
_FRESH_SECONDS = 0.1
_NO_CONNECTION = "No connection available."  # redis-py has no exception of its own for it
_ACKNOWLEDGE_MILLISECONDS = 200  # less than the time limit of a reply
_NO_SERVER = SSLContext(PROTOCOL_TLS_CLIENT)


class NoFreeConnection(RedisError):
    """All connections of the pool are in use; the server may be well."""


class NotAcknowledged(RedisError):
    """Too few replicas have received a write in time."""


class Connection(Protocol):
    """The used part of redis-py's connections, which have no type annotations."""

    @property
    def is_connected(self) -> bool: ...
    def send_command(self, *command: str | int) -> None: ...
    def read_response(self) -> Any: ...
    def can_read(self) -> bool: ...
    def should_reconnect(self) -> bool: ...
    def disconnect(self) -> None: ...


class Pool(Protocol):
    """The used part of redis-py's connection pools."""

    max_connections: int

    def get_connection(self) -> Connection: ...
    def release(self, connection: Any) -> None: ...


class Connections:
    """Caches a few connections of a client's pool in a plain list.

    redis-py's pool, retries and telemetry take as much CPU time for each command as sending it and reading the reply.
    """

    def __init__(self, pool: Pool):
        self._pool = pool
        self._limit = pool.max_connections // 4  # the rest is for other users of the client
        self._cached: list[tuple[Connection, float]] = []  # append() and pop() are atomic, so it needs no lock
        self._process = getpid()

    def execute(self, *command: str | int, replicas: int = 0) -> Any:
        """Return the reply to a command. Raises RedisError. Never sends a command twice.

        replicas: so many must have received the connection's writes, or NotAcknowledged is raised: after a failover the
        write may be lost.
        """
        connection = self._take()
        try:
            reply = self._exchange(connection, command, replicas)
        except ResponseError as error:
            if isinstance(error, ReadOnlyError) or "NOREPLICAS" in str(error):
                self._drop(connection)  # after a failover, a new connection leads to the new primary
            else:
                self._give_back(connection)
            raise
        except BaseException as error:
            self._drop(connection)  # a late reply must not become the reply to another command
            if isinstance(error, (BrokenConnection, NotAcknowledged)):
                self._drop_all()  # the server may no longer be the primary, and new connections query Sentinel
            raise
        self._give_back(connection)
        return reply

    def _exchange(self, connection: Connection, command: Sequence[str | int], replicas: int) -> Any:
        connection.send_command(*command)
        if not replicas:
            return connection.read_response()
        connection.send_command("WAIT", replicas, _ACKNOWLEDGE_MILLISECONDS)
        try:
            reply, error = connection.read_response(), None
        except ResponseError as raised:
            reply, error = None, raised
        received = connection.read_response()
        if error:
            raise error
        if received < replicas:
            raise NotAcknowledged(f"{received} of {replicas} replicas have received the write")
        return reply

    def _take(self) -> Connection:
        if self._process != getpid():  # forked: the cached connections belong to the parent process
            self._cached, self._process = [], getpid()
        while True:
            try:
                connection, since = self._cached.pop()
            except IndexError:
                return self._connect()
            if connection.is_connected and (monotonic() - since < _FRESH_SECONDS or _is_open(connection)):
                return connection
            self._drop(connection)

    def _connect(self) -> Connection:
        try:
            return self._pool.get_connection()
        except BrokenConnection as error:
            if str(error) == _NO_CONNECTION:
                raise NoFreeConnection from error
            _forget_tls_errors()
            raise
        except BaseException:
            _forget_tls_errors()
            raise

    def _give_back(self, connection: Connection) -> None:
        if len(self._cached) < self._limit and not connection.should_reconnect():
            self._cached.append((connection, monotonic()))
        else:
            self._pool.release(connection)

    def _drop_all(self) -> None:
        """Drop all cached connections: they are probably broken too, and each would fail another request."""
        with suppress(IndexError):
            while True:
                self._drop(self._cached.pop()[0])

    def _drop(self, connection: Connection) -> None:
        _forget_tls_errors()
        connection.disconnect()
        self._pool.release(connection)


def _is_open(connection: Connection) -> bool:
    """Return whether the connection is open and has no unexpected data to read."""
    try:
        return not connection.can_read()
    except (RedisError, OSError):
        return False


def _forget_tls_errors() -> None:
    """Clear this thread's OpenSSL error queue, in about 15 microseconds.

    Python leaves the errors of a broken connection there (https://github.com/python/cpython/issues/148594). Each later
    read that has to wait, on any connection, would then fail with such an error until the process ends. Setting a
    cipher list that selects no cipher changes nothing, and is the only public call that clears the queue.
    """
    with suppress(SSLError):
        _NO_SERVER.set_ciphers("NONE-SUCH")
