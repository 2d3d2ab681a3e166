"""The settings of a node."""

import json
from pathlib import Path
from typing import Any

import pytest
from anynode.config import Config, ConfigError
from lib.demo_app import environ, make_app
from lib.redis_server import REDIS_PASSWORD
from werkzeug.security import check_password_hash, generate_password_hash


def test_the_settings_have_defaults() -> None:
    config = Config.from_environ(environ(APP_COOKIE_SECURE=None))
    assert (config.session_idle_seconds, config.session_lifetime_seconds) == (1800, 28800)
    assert config.sessions_per_user == 10
    assert (config.session_store, config.session_prefix, config.redis_username) == (
        "redis",
        "anynode:",
        "app",
    )
    assert (config.cookie_secure, config.trusted_proxies) == (True, frozenset())


@pytest.mark.parametrize("method", ["scrypt:128:8:1", "scrypt:32768:1:1", "scrypt:16384:8:5", "pbkdf2:sha1:1"])
def test_a_hash_that_is_accepted_can_be_computed(method: str) -> None:
    users = json.dumps({"a": generate_password_hash("x", method)})
    config = Config.from_environ(environ(APP_USERS=users))
    assert check_password_hash(config.users["a"], "x")


def test_secrets_are_not_in_the_repr() -> None:
    config = Config.from_environ(environ())
    for secret in (config.secret_key, REDIS_PASSWORD, "pbkdf2"):
        assert secret not in repr(config)


# hashes that would fail at every login, or need too much memory
UNCOMPUTABLE: tuple[str, ...] = (
    "scrypt:1:1:1",
    "scrypt:16383:8:5",
    "scrypt:16384:0:5",
    "scrypt:16384:8:0",
    "scrypt:524288:8:1",
)


UNCOMPUTABLE += ("scrypt:16384:8:128", "pbkdf2:sha256:0", "pbkdf2:sha256:2147483648")


INVALID: dict[str, list[str | None]] = {
    "APP_NODE": ["", "a b", "x\ny", None],
    "APP_RELEASE": ["", "a/b"],
    "APP_SECRET_KEY": [None, "short", "changeme" * 8, "please-CHANGE-ME-" * 3, "x" * 31],
    "APP_USERS": [None, "", "{", "[]", "{}", '{"a": "plain"}', '{"a": 1}', '{"": "scrypt:16384:8:5$a$b"}']
    + [f'{{"a": "{method}$a$b"}}' for method in UNCOMPUTABLE],
    "APP_SESSION_STORE": ["mysql", ""],
    "APP_REDIS_HOST": [None, "", "redis://x/"],
    "APP_REDIS_PORT": ["0", "65536", "x", "-1", "²"],
    "APP_REDIS_PASSWORD": [None, "", "changeme", "<password>", "your-password"],
    "APP_SESSION_PREFIX": ["", "{a}", "a b"],
    "APP_SESSION_IDLE_SECONDS": ["0", "1.5", ""],
    "APP_SESSION_LIFETIME_SECONDS": ["-3", "9" * 99],
    "APP_SESSIONS_PER_USER": ["0", "1001", "many"],
    "APP_COOKIE_SECURE": ["yes", "True", ""],
    "APP_LOGIN_WINDOW_SECONDS": ["59", "86401"],
    "APP_LOGIN_FAILURES": ["0", "1001"],
    "APP_LOGIN_ADDRESS_FAILURES": ["0", "1001"],
    "APP_LOGIN_ACCOUNT_FAILURES": ["0", "1001"],
    "APP_LOGIN_PAUSE_SECONDS": ["0", "61"],
    "APP_LOGIN_THREADS": ["0", "x"],
    "PROMETHEUS_MULTIPROC_DIR": ["/nowhere", "/etc/hosts"],
    "APP_TRUSTED_PROXIES": ["10.0.0.0/8", "proxy"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INVALID.items() for value in values])
def test_an_invalid_setting_is_named(name: str, value: str | None) -> None:
    changes: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError) as caught:
        Config.from_environ(environ(**changes))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"  {name} ")


def test_all_invalid_settings_are_named_at_once_without_secrets() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_environ({"APP_SECRET_KEY": "changeme-123", "APP_USERS": json.dumps({"ada": "hunter2"})})
    message = str(caught.value)
    for name in ("APP_NODE", "APP_SECRET_KEY", "APP_USERS", "APP_REDIS_HOST", "APP_REDIS_PASSWORD"):
        assert name in message
    for secret in ("changeme-123", "hunter2", "ada"):
        assert secret not in message


def test_a_fallback_key_must_be_long() -> None:
    with pytest.raises(ConfigError, match="APP_SECRET_KEY_FALLBACKS is shorter than 32 characters"):
        make_app(APP_SECRET_KEY_FALLBACKS=f"{'old-' * 10} short")


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
def test_an_unreadable_ca_file_prevents_the_start(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=rf"APP_REDIS_CA_FILE is {path}, which contains no certificate .*: set it"):
        make_app(APP_REDIS_CA_FILE=str(path))
