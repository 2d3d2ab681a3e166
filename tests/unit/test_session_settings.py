"""The SESSION_* options of flask-shared-session: conversion, defaults and errors."""

from pathlib import Path
from typing import Any

import pytest
from flask_shared_session.settings import RedisURL, SettingError, Settings

LOCAL = {"SESSION_REDIS_URL": "redis://localhost"}


def read(**config: Any) -> Settings:
    return Settings.read(config, "shop", {})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("redis://localhost", RedisURL("redis", False, (("localhost", 6379),))),
        ("redis://ada:p%40ss%2F%3F@h:7000/2", RedisURL("redis", False, (("h", 7000),), "ada", "p@ss/?", 2)),
        ("rediss://:secret@[2001:db8::1]:7000", RedisURL("redis", True, (("2001:db8::1", 7000),), None, "secret")),
        (
            "redis+sentinel://app:pw@h1:26379,h2/sessions",
            RedisURL("sentinel", False, (("h1", 26379), ("h2", 26379)), "app", "pw", 0, "sessions"),
        ),
        ("rediss+sentinel://h1/sessions", RedisURL("sentinel", True, (("h1", 26379),), service="sessions")),
        ("redis+cluster://h1:7001,h2:7002", RedisURL("cluster", False, (("h1", 7001), ("h2", 7002)))),
        ("rediss+cluster://h1", RedisURL("cluster", True, (("h1", 6379),))),
        ("memory://", RedisURL("memory")),
    ],
)
def test_urls(text: str, parts: RedisURL) -> None:
    assert RedisURL.parse(text) == parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localhost:6379", "has no known scheme"),
        ("http://:hunter2@localhost", "has no known scheme"),
        ("redis://", "lacks a host"),
        ("redis://:hunter2@", "lacks a host"),
        ("redis://:hunter2@localhost:port", "has an invalid host or port"),
        ("redis://localhost:70000", "has an invalid host or port"),
        ("redis://localhost:0", "has port 0"),
        ("redis://app:hunter2\u2100@localhost", "has an invalid host, or characters that must be encoded"),
        ("redis://app:hunter2[@localhost", "has an invalid host, or characters that must be encoded"),
        ("redis://:hunter2@localhost/db", "ends in a path"),
        ("redis://h1,h2", "names several hosts"),
        ("redis://:hunter2@localhost?db=1", "has a query"),
        ("redis://:hunter2#@localhost", "has a query or a fragment"),
        ("redis+sentinel://h1,h2", "lacks the service name"),
        ("redis+sentinel://h1,,h2/sessions", "lacks a host"),
        ("redis+cluster://h1/0", "ends in a path"),
        ("memory://localhost", "names a host"),
    ],
)
def test_an_invalid_url_is_refused_without_its_password(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=f"^SESSION_REDIS_URL {message}") as raised:
        read(SESSION_REDIS_URL=text)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None and raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SESSION_REDIS_URL", None, "is missing: set it to redis://"),
        ("SESSION_REDIS_URL", "", "is missing"),
        ("SESSION_REDIS_URL", 6379, "has type int: use a text"),
        ("SESSION_REDIS_CA_FILE", "/nonexistent", "is '/nonexistent', which can't be read as certificates"),
        ("SESSION_REDIS_CA_FILE", __file__, "can't be read as certificates"),
        ("SESSION_PREFIX", "a b", "is 'a b': use a text"),
        ("SESSION_PREFIX", "{a}", "use a text"),
        ("SESSION_PREFIX", "a*", "use a text"),
        ("SESSION_PREFIX", 7, "is 7: use a text"),
        ("SESSION_IDLE_SECONDS", 0, "is 0: use a whole number from 1"),
        ("SESSION_IDLE_SECONDS", -1, "is -1: use a whole number"),
        ("SESSION_IDLE_SECONDS", 0.5, "is 0.5: use a whole number"),
        ("SESSION_IDLE_SECONDS", "soon", "is 'soon': use a whole number"),
        ("SESSION_IDLE_SECONDS", True, "is True: use a whole number"),
        ("SESSION_IDLE_SECONDS", 10**12, "use a whole number"),
        ("SESSION_LIFETIME_SECONDS", 60, "is 60, less than SESSION_IDLE_SECONDS"),
        ("SESSION_PER_USER", 0, "is 0: use a whole number from 1"),
        ("SESSION_PROBE_KEY", "short", "is too short: use 32 random characters"),
        ("SESSION_PROBE_KEY", 12345678901234567890123456789012, "is too short"),
        ("SESSION_MAX_CONNECTIONS", "0", "is '0': use a whole number from 1"),
        ("SESSION_ACKNOWLEDGE", "-1", "is '-1': use a whole number from 0"),
    ],
)
def test_an_invalid_value_is_named_with_the_remedy(name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingError) as raised:
        read(**LOCAL | {name: value})
    assert str(raised.value).startswith(name)
    assert message in str(raised.value)


def test_a_ca_file_needs_tls(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="SESSION_REDIS_URL has no TLS: use rediss://"):
        read(**LOCAL, SESSION_REDIS_CA_FILE="/etc/ssl/certs/ca-certificates.crt")


def test_a_cluster_acknowledges_nothing() -> None:
    with pytest.raises(SettingError, match="SESSION_ACKNOWLEDGE needs replicas of a single Redis or of Sentinel"):
        read(SESSION_REDIS_URL="redis+cluster://h1", SESSION_ACKNOWLEDGE=1)
    assert read(SESSION_REDIS_URL="redis+sentinel://h1/sessions", SESSION_ACKNOWLEDGE="1").acknowledge == 1


def test_defaults() -> None:
    assert read(**LOCAL) == Settings(
        RedisURL("redis", False, (("localhost", 6379),)), None, "shop:", 1800, 28_800, 10, 2**20, 32, 0, None
    )


def test_the_config_takes_precedence_over_the_environment() -> None:
    environ = {"SESSION_REDIS_URL": "redis://b", "SESSION_PER_USER": "3", "SESSION_IDLE_SECONDS": "60"}
    settings = Settings.read(LOCAL | {"SESSION_PER_USER": 5}, "shop", environ)
    assert settings.redis_url.hosts == (("localhost", 6379),)
    assert (settings.per_user, settings.idle_seconds) == (5, 60)
