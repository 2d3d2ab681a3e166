"""The servers that the tests run on are what the tests' names say."""

import pytest


@pytest.mark.every_server
def test_the_server_says_the_name_that_stands_in_the_tests_name(redis, server_name):
    info = redis.admin.info("server")
    name, version = info.get("server_name", "redis"), info.get("valkey_version") or info["redis_version"]
    assert f"{name}-{version}.".startswith(f"{server_name}.")
