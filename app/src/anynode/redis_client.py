"""The connection to Redis: fails fast, because a user waits, and verifies the server before it sends the password."""

import ssl
from typing import Any

from redis import BlockingConnectionPool, Redis, SSLConnection
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_SECONDS = 0.3
MAX_CONNECTIONS = 32


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


def make_client(*, host: str, port: int, username: str, password: str, ca_file: str | None = None) -> Redis:
    """Return a client for all threads of a process. It connects at first use; a command fails within about 0.6 s.

    Waiting for a free connection may take another TIMEOUT_SECONDS, but no thread has to wait in a process with at most
    MAX_CONNECTIONS threads.
    host, port, username, password: of the server and its ACL user. ca_file: see client_options.
    Raises OSError if ca_file can't be read.
    """
    tls: dict[str, Any] = {}
    if ca_file:
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        tls = {"connection_class": _VerifiedConnection, "tls": context}
    return Redis(
        connection_pool=BlockingConnectionPool(
            host=host,
            port=port,
            username=username,
            password=password,
            max_connections=MAX_CONNECTIONS,
            timeout=TIMEOUT_SECONDS,
            **tls,
            **client_options(),
        )
    )
