"""Wrong arguments of stores are refused when the store is created."""

from typing import Any

import pytest
from flask_shared_session import MemoryStore, RedisStore
from flask_shared_session.redis_client import make_client
from redis import asyncio

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"idle": 0}, ValueError, "idle is 0"),
    ({"idle": -1}, ValueError, "idle is -1"),
    ({"idle": 0.0001}, ValueError, "idle is 0.0001"),
    ({"idle": "60"}, TypeError, "idle must be a number of seconds, not str"),
    ({"idle": None}, TypeError, "not NoneType"),
    ({"lifetime": float("nan")}, ValueError, "lifetime is nan"),
    ({"lifetime": True}, TypeError, "not bool"),
    ({"per_user": None}, TypeError, "per_user must be int, not NoneType"),
    ({"per_user": 0}, ValueError, "per_user is 0: use 1 or more"),
    ({"per_user": 1.5}, TypeError, "per_user must be int, not float"),
    ({"max_bytes": 0}, ValueError, "max_bytes is 0: use 1 or more"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    valid: dict[str, Any] = {"idle": 60, "lifetime": 600}
    with pytest.raises(error, match=message):
        MemoryStore(**valid | arguments)
    with pytest.raises(error, match=message):
        RedisStore(make_client(host="127.0.0.1", port=1), prefix="a:", **valid | arguments)


@pytest.mark.parametrize(
    ("client", "prefix", "error", "message"),
    [
        (asyncio.Redis(), "a:", TypeError, "not redis.asyncio.client.Redis: see make_client"),
        (None, "a:", TypeError, "not builtins.NoneType"),
        (make_client(host="127.0.0.1", port=1), 7, TypeError, "prefix must be str, not int"),
    ],
)
def test_a_wrong_client_or_prefix(client: Any, prefix: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RedisStore(client, prefix=prefix, idle=60, lifetime=600)
