"""Demo apps, session stores, logged-in clients, and assertions about their responses."""

import html
import json
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from anynode import create_app
from anynode.config import Config
from flask import Flask
from flask.testing import FlaskClient
from flask_shared_session import RedisStore, SharedSessionInterface
from flask_shared_session.redis_client import make_client
from redis import Redis
from werkzeug.security import generate_password_hash
from werkzeug.test import TestResponse

from lib.redis_server import PREFIX, REDIS_PASSWORD

# No hexadecimal digits: a random id never contains it.
USER, PASSWORD = "grace", "correct horse"
# few iterations: the tests log in often
HASH = generate_password_hash(PASSWORD, method="pbkdf2:sha256:1000")


class Server(Protocol):
    """A Redis server on loopback."""

    port: int


def redis_store(server: Server, idle: float = 100, lifetime: float = 1000, **options: Any) -> RedisStore:
    """A store of the app's ACL user; idle, lifetime: seconds; options: of RedisStore."""
    client = make_client(host="127.0.0.1", port=server.port, username="app", password=REDIS_PASSWORD)
    return RedisStore(client, prefix=PREFIX, idle=idle, lifetime=lifetime, **options)


def admin_client(port: int) -> Redis:
    """A session layer's client for examples, which have key prefixes of their own."""
    return make_client(host="127.0.0.1", port=port, username="admin", password=REDIS_PASSWORD)


def environ(port: int = 6379, **changes: str | None) -> dict[str, str]:
    """Valid settings of a node, with changes; None removes a variable. port: of Redis."""
    settings: dict[str, str | None] = {
        "APP_NODE": "app1",
        "APP_RELEASE": "r1",
        "APP_SECRET_KEY": "0123456789abcdef" * 2,
        "APP_USERS": json.dumps({USER: HASH, "bob": HASH}),
        "APP_REDIS_HOST": "127.0.0.1",
        "APP_REDIS_PORT": str(port),
        "APP_REDIS_PASSWORD": REDIS_PASSWORD,
        "APP_COOKIE_SECURE": "false",  # the tests use plain HTTP
    }
    return {name: value for name, value in (settings | changes).items() if value is not None}


def make_app(port: int = 6379, **changes: str | None) -> Flask:
    """The demo app with the settings of environ()."""
    return create_app(Config.from_environ(environ(port, **changes)))


def store_of(app: Flask) -> RedisStore:
    """The app's session store."""
    interface = app.session_interface
    assert isinstance(interface, SharedSessionInterface) and isinstance(interface.store, RedisStore)
    return interface.store


def log_in(client: FlaskClient, user: str = USER, password: str = PASSWORD) -> TestResponse:
    """Log in by the API."""
    return client.post("/api/login", json={"username": user, "password": password})


def session_cookie(client: FlaskClient, name: str = "session") -> str | None:
    """The session id that the client sends."""
    cookie = client.get_cookie(name)
    return cookie.value if cookie else None


def token(client: FlaskClient, path: str = "/") -> str:
    """The CSRF token of the first form on a page."""
    found = re.search(r'name="csrf" value="([^"]*)"', client.get(path).text)
    assert found, f"{path} has no form"
    return html.unescape(found[1])


def logged_in_client(port: int, is_connected: bool = True) -> FlaskClient:
    """A logged-in client of a node of its own, so with a circuit breaker of its own.

    port: of Redis. is_connected: whether the node already has a connection to Redis.
    """
    limits = ("SESSIONS_PER_USER", "LOGIN_FAILURES", "LOGIN_ADDRESS_FAILURES", "LOGIN_ACCOUNT_FAILURES")
    node = partial(make_app, port, **{f"APP_{name}": "1000" for name in limits})
    client = node().test_client()
    assert retry_503(partial(log_in, client)).status_code == 200
    if is_connected:
        return client
    other = node().test_client()
    other.set_cookie("session", session_cookie(client) or "")
    return other


def retry_503(call: Callable[[], TestResponse]) -> TestResponse:
    """The first response other than 503, for at most 10 s."""
    deadline = time.monotonic() + 10
    while (response := call()).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.02)
    return response


def timed(call: Callable[[], TestResponse]) -> tuple[TestResponse, float]:
    """The response, and the seconds that it took."""
    started = time.monotonic()
    response = call()
    return response, time.monotonic() - started


def assert_unavailable(response: TestResponse, seconds: float = 0) -> None:
    """Assert 503 within a second, with the usual headers and without a change of cookies."""
    assert response.status_code == 503, response.status
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Node"] == "app1"
    assert response.headers["X-Request-ID"]
    assert "Set-Cookie" not in response.headers
    assert seconds < 1, f"{seconds:.2f} s"
