"""The connection to Redis: fails fast, because a user waits, and verifies the server before it sends the password."""

import ssl
from typing import Any

from redis import BlockingConnectionPool, Redis, SSLConnection
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

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
    options: dict[str, Any] = {}
    if ca_file or tls:
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        options = {"connection_class": _VerifiedConnection, "tls": context}
    return Redis(
        connection_pool=BlockingConnectionPool(
            host=host,
            port=port,
            username=username,
            password=password,
            db=database,
            max_connections=max_connections,
            timeout=TIMEOUT_SECONDS,
            **options,
            **client_options(),
        )
    )


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
    options = client_options(ca_file) | ({"ssl": True} if url.tls else {})
    if url.kind == "sentinel":
        sentinels = Sentinel(list(url.hosts), sentinel_kwargs=options, **account, **options)
        return sentinels.master_for(url.service, max_connections=max_connections)
    nodes = [ClusterNode(host, port) for host, port in url.hosts]
    return RedisCluster(startup_nodes=nodes, max_connections=max_connections, **account, **options)
