"""The connection to Redis: fails fast, because a user waits, and verifies the server before it sends the password."""

import ssl
from typing import Any

from redis import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from .sentinel import Sentinels, primary_connection
from .settings import RedisURL
from .store import MAX_CONNECTIONS

TIMEOUT_SECONDS = 0.3


def client_options(ca_file: str | None = None) -> dict[str, Any]:
    """Return options for any redis-py client of the session layer, including Sentinel and Cluster.

    Connecting, the TLS handshake and each reply may take TIMEOUT_SECONDS. ca_file: path of the CA certificates that
    must have signed the server's certificate, which must be valid for the requested host; None: plain TCP.
    """
    tls = {"ssl": True, "ssl_ca_certs": ca_file, "ssl_min_version": ssl.TLSVersion.TLSv1_2} if ca_file else {}
    return tls | {
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        # an increment must not be sent again if its reply got lost
        "retry": Retry(NoBackoff(), 0),
        # so that a connection starts with AUTH only: the ACL has to allow nothing else
        "protocol": 2,
        "driver_info": None,
    }


class _VerifiedConnection(SSLConnection):
    """Verifies with the certificates of a single CA file, which is read only at the start.

    redis-py also reads the system's CA certificates, again for each connection: tens of milliseconds of CPU time.
    """

    def __init__(self, *, tls: ssl.SSLContext, **options: Any):
        super().__init__(**options)
        self._tls = tls

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        return self._tls.wrap_socket(sock, server_hostname=self.host)


def make_client(
    *,
    host: str,
    port: int,
    username: str | None = None,
    password: str | None = None,
    ca_file: str | None = None,
    tls: bool = False,
    database: int = 0,
    max_connections: int = MAX_CONNECTIONS,
) -> Redis:
    """Return a client for all threads of a process. It connects at first use; a command fails within about 0.6 s.

    Waiting for a free connection may take another TIMEOUT_SECONDS, but no thread has to wait in a process with at most
    max_connections threads.
    host, port, username, password: of the server and its ACL user. ca_file: see client_options; tls without it: the
    system's CA certificates. Raises OSError if ca_file can't be read.
    """
    address = {"host": host, "port": port, "db": database}
    return _client(
        **address, **_transport(ca_file, tls), username=username, password=password, max_connections=max_connections
    )


def _transport(ca_file: str | None, tls: bool) -> dict[str, Any]:
    """Return the options of a connection pool for TCP or TLS. Raises OSError if ca_file can't be read."""
    if not (ca_file or tls):
        return {"connection_class": Connection}
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return {"connection_class": _VerifiedConnection, "tls": context}


def _client(**options: Any) -> Redis:
    return Redis(connection_pool=BlockingConnectionPool(timeout=TIMEOUT_SECONDS, **options, **client_options()))


def client_of(url: RedisURL, *, ca_file: str | None = None, max_connections: int = MAX_CONNECTIONS) -> Any:
    """Return a client, as RedisStore takes it, for a URL of Redis, Sentinel or a cluster.

    For Sentinel, the ACL user and the password are those of Redis; Sentinel is queried without. Raises OSError if
    ca_file can't be read, and RedisError if no node of a cluster answers.
    """
    account: dict[str, Any] = {"username": url.username, "password": url.password}
    if url.kind == "redis":
        ((host, port),) = url.hosts
        more: dict[str, Any] = {"tls": url.tls, "database": url.database, "max_connections": max_connections}
        return make_client(host=host, port=port, ca_file=ca_file, **account, **more)
    if url.kind == "sentinel":
        transport = _transport(ca_file, url.tls)
        sentinels = Sentinels(url.hosts, url.service, **transport, **client_options())
        transport["connection_class"] = primary_connection(transport["connection_class"], sentinels)
        return _client(**transport, **account, max_connections=max_connections)
    options = client_options(ca_file) | ({"ssl": True} if url.tls else {})
    nodes = [ClusterNode(host, port) for host, port in url.hosts]
    return RedisCluster(startup_nodes=nodes, max_connections=max_connections, **account, **options)
