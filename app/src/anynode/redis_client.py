"""The connection to Redis: gives up early, because a visitor waits, and tells the password to nobody else."""

import ssl
from typing import Any

from redis import BlockingConnectionPool, Redis, SSLConnection
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_SECONDS = 0.3
MAX_CONNECTIONS = 32


def client_options(ca_file: str | None = None) -> dict[str, Any]:
    """What any redis-py client for sessions should be given, Sentinel's and Cluster's too.

    Connecting, a handshake, and each answer, may take TIMEOUT_SECONDS. ca_file: the server must show a certificate for
    the host that was asked for, signed by one of these; None: plain TCP.
    """
    tls = {"ssl": True, "ssl_ca_certs": ca_file, "ssl_min_version": ssl.TLSVersion.TLSv1_2} if ca_file else {}
    return tls | {
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        # an increment whose answer got lost must not be sent again
        "retry": Retry(NoBackoff(), 0),
        # so that a connection begins with AUTH and nothing else that the ACL would have to allow
        "protocol": 2,
        "driver_info": None,
    }


class _VerifiedConnection(SSLConnection):
    """Verifies with one CA's certificates, read once.

    redis-py reads those of all the world's CAs, too, and anew for each connection: tens of milliseconds of CPU time.
    """

    def __init__(self, *, tls: ssl.SSLContext, **options: Any):
        super().__init__(**options)
        self._tls = tls

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        return self._tls.wrap_socket(sock, server_hostname=self.host)


def make_client(*, host: str, port: int, username: str, password: str, ca_file: str | None = None) -> Redis:
    """A client for the threads of one process. Connects at first use; each command fails within about 0.6 s.

    Waiting for a free connection may take TIMEOUT_SECONDS as well. With no more than MAX_CONNECTIONS threads in a
    process, none waits for one. ca_file: see client_options; raises OSError if it can't be used.
    """
    tls: dict[str, Any] = {}
    if ca_file:
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        tls = {"connection_class": _VerifiedConnection, "tls": context}
    return Redis(
        connection_pool=BlockingConnectionPool(  # type: ignore[no-untyped-call] # redis-py has no types there
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
