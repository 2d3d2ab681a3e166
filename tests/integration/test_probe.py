"""The probe of flask-shared-session: a session made on a node is read and ended on another, without an account."""

import time
from typing import Any

import pytest
from flask import Flask, abort, redirect
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from flask_shared_session import SharedSession
from flask_shared_session.probe import AHEAD_SECONDS, HEADER, PATH, TOKEN_SECONDS, make_token
from lib.redis_server import PREFIX, REDIS_PASSWORD, RedisServer

KEY = "0123456789abcdef" * 2


def make_app(redis: RedisServer, key: str | None = KEY) -> Flask:
    """An app that lets no request pass without a login."""
    app = Flask("shop")
    app.config.update(
        SESSION_REDIS_URL=f"redis://app:{REDIS_PASSWORD}@127.0.0.1:{redis.port}",
        SESSION_PREFIX=PREFIX,
        SESSION_PROBE_KEY=key,
    )

    @app.before_request
    def require_login() -> ResponseReturnValue:
        return redirect("/login")

    SharedSession(app)

    @app.before_request
    def require_csrf_token() -> ResponseReturnValue:
        abort(400)

    return app


def probe(client: FlaskClient, method: str, **headers: str) -> Any:
    return client.open(PATH, method=method, headers={HEADER: make_token(KEY, method)} | headers)


@pytest.fixture
def clients(redis: RedisServer) -> tuple[FlaskClient, FlaskClient]:
    """Clients of two nodes."""
    first, second = (make_app(redis).test_client() for _ in range(2))
    return first, second


def copy_cookie(source: FlaskClient, target: FlaskClient) -> None:
    cookie = source.get_cookie("session")
    assert cookie
    target.set_cookie("session", cookie.value)


@pytest.mark.every_server
def test_a_session_is_made_read_and_ended(clients: tuple[FlaskClient, FlaskClient], redis: RedisServer) -> None:
    first, second = clients
    value = probe(first, "POST").json["value"]
    assert len(value) == 16
    copy_cookie(first, second)
    assert probe(second, "GET").json == {"value": value}
    assert probe(second, "DELETE").json == {"value": value}
    assert probe(first, "GET").json == {"value": None}
    assert redis.session_keys() == []


def test_each_session_has_an_id_and_a_value_of_its_own(clients: tuple[FlaskClient, FlaskClient]) -> None:
    client, _other = clients
    value = probe(client, "POST").json["value"]
    before = client.get_cookie("session")
    assert probe(client, "POST").json["value"] != value
    after = client.get_cookie("session")
    assert before and after and before.value != after.value


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "soon." + "0" * 64,
        make_token("f" * 32, "GET"),
        make_token(KEY, "POST"),
        make_token(KEY, "GET") + "0",
        make_token(KEY, "GET", time.time() - TOKEN_SECONDS - 5),
        make_token(KEY, "GET", time.time() + AHEAD_SECONDS + 5),
        "\u00e9",
    ],
    ids=["none", "dot", "no time", "another key", "another method", "longer", "expired", "future", "not ASCII"],
)
def test_without_a_valid_token_the_request_is_the_apps(redis: RedisServer, token: str) -> None:
    response = make_app(redis).test_client().get(PATH, headers={HEADER: token})
    assert (response.status_code, response.headers["Location"]) == (302, "/login")
    assert redis.session_keys() == []


def test_without_a_key_there_is_no_probe(redis: RedisServer) -> None:
    assert probe(make_app(redis, key=None).test_client(), "POST").status_code == 302


def test_the_path_does_not_exist_in_an_app_without_hooks(redis: RedisServer) -> None:
    app = make_app(redis)
    del app.before_request_funcs[None][1:]
    assert app.test_client().get(PATH).status_code == 404
    assert app.test_client().get(PATH, headers={HEADER: make_token(KEY, "GET")}).status_code == 200
