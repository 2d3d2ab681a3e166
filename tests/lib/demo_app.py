"""Apps, stores and visitors."""

import html
import json
import re
import time
from functools import partial

from anynode import create_app
from anynode.config import Config
from anynode.redis_client import make_client
from anynode.sessions import RedisStore
from werkzeug.security import generate_password_hash

from lib.redis_server import PREFIX, REDIS_PASSWORD

USER, PASSWORD = "ada", "correct horse"
# cheap to check: the tests log in often
HASH = generate_password_hash(PASSWORD, method="pbkdf2:sha256:1000")


def redis_store(server, idle=100, lifetime=1000, **options) -> RedisStore:
    client = make_client(host="127.0.0.1", port=server.port, username="app", password=REDIS_PASSWORD)
    return RedisStore(client, prefix=PREFIX, idle=idle, lifetime=lifetime, **options)


def environ(port=6379, **changes) -> dict[str, str]:
    """Settings of a node that are right, with changes; None takes one out."""
    settings = {
        "APP_NODE": "app1",
        "APP_RELEASE": "r1",
        "APP_SECRET_KEY": "0123456789abcdef" * 2,
        "APP_USERS": json.dumps({USER: HASH, "bob": HASH}),
        "APP_REDIS_HOST": "127.0.0.1",
        "APP_REDIS_PORT": str(port),
        "APP_REDIS_PASSWORD": REDIS_PASSWORD,
        "APP_COOKIE_SECURE": "false",  # the tests speak plain HTTP
    }
    return {name: value for name, value in (settings | changes).items() if value is not None}


def make_app(port=6379, **changes):
    return create_app(Config.from_environ(environ(port, **changes)))


def log_in(client, user=USER, password=PASSWORD):
    return client.post("/api/login", json={"username": user, "password": password})


def session_cookie(client, name="session"):
    cookie = client.get_cookie(name)
    return cookie.value if cookie else None


def token(client, path="/") -> str:
    """The CSRF token of the first form on a page."""
    return html.unescape(re.search(r'name="csrf" value="([^"]*)"', client.get(path).text)[1])


def visit(port, is_connected=True):
    """A visitor who is logged in, at a node with a circuit breaker of its own."""
    node = partial(make_app, port, APP_SESSIONS_PER_USER="1000", APP_LOGIN_FAILURES="1000")
    visitor = node().test_client()
    assert when_well(partial(log_in, visitor)).status_code == 200
    if is_connected:
        return visitor
    stranger = node().test_client()
    stranger.set_cookie("session", session_cookie(visitor))
    return stranger


def when_well(call):
    """The first answer that isn't 503."""
    deadline = time.monotonic() + 10
    while (response := call()).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.02)
    return response


def timed(call):
    started = time.monotonic()
    response = call()
    return response, time.monotonic() - started


def assert_honest(response, seconds=0):
    """It is 503, soon and without harm."""
    assert response.status_code == 503, response.status
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Node"] == "app1"
    assert response.headers["X-Request-ID"]
    assert "Set-Cookie" not in response.headers
    assert seconds < 1, f"{seconds:.2f} s"
