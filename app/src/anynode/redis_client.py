"""The connection to Redis: gives up early, because a visitor waits."""

from typing import Any

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_SECONDS = 0.3
MAX_CONNECTIONS = 32


def client_options() -> dict[str, Any]:
    """What any redis-py client for sessions should be given, Sentinel's and Cluster's too.

    Connecting, and each answer, may take TIMEOUT_SECONDS.
    """
    return {
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        # an increment whose answer got lost must not be sent again
        "retry": Retry(NoBackoff(), 0),
        # so that a connection begins with AUTH and nothing else that the ACL would have to allow
        "protocol": 2,
        "driver_info": None,
    }


def make_client(*, host: str, port: int, username: str, password: str) -> Redis:
    """A client for the threads of one process. Connects at first use; each command fails within about 0.6 s.

    Waiting for a free connection may take TIMEOUT_SECONDS as well. With no more than MAX_CONNECTIONS threads in a
    process, none waits for one.
    """
    return Redis(
        connection_pool=BlockingConnectionPool(  # type: ignore[no-untyped-call] # redis-py has no types there
            host=host,
            port=port,
            username=username,
            password=password,
            max_connections=MAX_CONNECTIONS,
            timeout=TIMEOUT_SECONDS,
            **client_options(),
        )
    )
