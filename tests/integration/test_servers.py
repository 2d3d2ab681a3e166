"""The test servers are the servers that the test ids name."""

import pytest
from lib.redis_server import RedisServer


@pytest.mark.every_server
def test_the_server_has_the_name_in_the_test_id(redis: RedisServer, server_name: str) -> None:
    info = redis.admin.info("server")
    name, version = info.get("server_name", "redis"), info.get("valkey_version") or info["redis_version"]
    assert f"{name}-{version}.".startswith(f"{server_name}.")
