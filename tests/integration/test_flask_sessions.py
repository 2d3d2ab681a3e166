"""The session layer in an independent app: two lines, and Flask's own settings."""

from contextlib import suppress
from typing import Any

import flask
import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_shared_session import SessionStoreError, SharedSessionInterface, Store
from flask_shared_session.ids import make_id
from flask_shared_session.redis_store import RedisStore
from lib.demo_app import redis_store, session_cookie
from lib.redis_server import RedisServer


class FailingStore:
    """Fails in the named methods, and counts these calls."""

    def __init__(self, store: Store, failing: set[str]) -> None:
        self._store, self._failing, self.calls = store, failing, 0

    def __getattr__(self, name: str) -> Any:
        if name not in self._failing:
            return getattr(self._store, name)

        def fail(*args: object, **kwargs: object) -> None:
            self.calls += 1
            raise SessionStoreError

        return fail


def make_app(store: Any) -> Flask:
    """store: a Store, or a FailingStore."""
    app = flask.Flask("guest")
    app.session_interface = SharedSessionInterface(store)

    @app.get("/set")
    def set_value() -> str:
        flask.session["a"] = flask.session.get("a", 0) + 1
        return "set"

    @app.get("/get")
    def get_value() -> str:
        return str(flask.session.get("a"))

    @app.get("/untouched")
    def untouched() -> str:
        return "untouched"

    @app.get("/headers")
    def headers() -> tuple[str, dict[str, str]]:
        return str(flask.session.get("a")), {"Vary": "Accept", "Cache-Control": "max-age=60"}

    @app.get("/bad")
    def bad() -> str:
        flask.session["basket"] = {1, 2}
        return "bad"

    @app.get("/stubborn")
    def stubborn() -> str:
        for _ in range(3):
            with suppress(SessionStoreError):
                flask.session["a"] = 2
        return "without a session"

    @app.get("/ended-meanwhile")
    def ended_meanwhile() -> str:
        flask.session["a"] = 2
        store.delete(flask.request.cookies["session"])
        return "written"

    return app


@pytest.fixture
def store(redis: RedisServer) -> RedisStore:
    return redis_store(redis)


@pytest.fixture
def client(store: RedisStore) -> FlaskClient:
    return make_app(store).test_client()


def test_values_survive_and_the_cookie_is_set_once(client: FlaskClient) -> None:
    assert "Set-Cookie" in client.get("/set").headers
    second = client.get("/set")
    assert "Set-Cookie" not in second.headers
    assert client.get("/get").text == "2"


def test_responses_that_used_the_session_are_not_cached(client: FlaskClient) -> None:
    response = client.get("/get")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Vary"] == "Cookie"
    response = client.get("/untouched")
    assert "Cache-Control" not in response.headers
    assert "Vary" not in response.headers


def test_cache_headers_of_a_view_are_kept(client: FlaskClient) -> None:
    response = client.get("/headers")
    assert response.headers["Vary"] == "Accept, Cookie"
    assert response.headers["Cache-Control"] == "max-age=60, no-store"


def test_an_unused_session_needs_no_command(client: FlaskClient, redis: RedisServer) -> None:
    client.get("/set")
    with redis.monitor() as seen:
        client.get("/untouched")
    assert seen.sent == []


@pytest.mark.parametrize("cookie", ["x", "A" * 44, "A" * 46, "A" * 44 + "!", "A" * 3900, "A" * 44 + "é", "../" * 15])
def test_a_cookie_that_is_not_an_id_never_reaches_the_store(
    client: FlaskClient, redis: RedisServer, cookie: str
) -> None:
    client.set_cookie("session", cookie)
    with redis.monitor() as seen:
        assert client.get("/get").text == "None"
    assert seen.sent == []


def test_a_forged_id_is_not_adopted(client: FlaskClient) -> None:
    forged = make_id()
    client.set_cookie("session", forged)
    assert client.get("/get").text == "None"
    client.get("/set")
    assert session_cookie(client) not in (None, forged)


@pytest.mark.parametrize(("path", "failing"), [("/get", "read"), ("/set", "create"), ("/set", "update")])
def test_a_failing_store_is_503_in_an_app_without_a_handler(store: RedisStore, path: str, failing: str) -> None:
    broken = FailingStore(store, {failing})
    client = make_app(broken).test_client()
    if failing != "create":
        client.set_cookie("session", store_session(store))
    response = client.get(path)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert "Set-Cookie" not in response.headers
    assert broken.calls == 1


def store_session(store: Store) -> str:
    session_id = make_id()
    store.create(session_id, {"a": "1"})
    return session_id


@pytest.mark.parametrize("failing", ["read", "update"])
def test_an_app_can_handle_store_errors_during_and_after_the_view(store: RedisStore, failing: str) -> None:
    broken = FailingStore(store, {failing})
    app = make_app(broken)
    caught = []

    @app.errorhandler(SessionStoreError)
    def answer(error: SessionStoreError) -> tuple[dict[str, bool], int]:
        caught.append(error)
        return {"handled": True}, 503

    client = app.test_client()
    client.set_cookie("session", store_session(store))
    response = client.get("/set")
    assert (response.status_code, response.json) == (503, {"handled": True})
    assert len(caught) == broken.calls == 1


def test_an_error_has_the_headers_that_after_request_sets(store: RedisStore) -> None:
    """Of the app, of a blueprint and of the request itself, with cookies; without those that need the session."""
    app = make_app(FailingStore(store, {"update"}))
    shop = flask.Blueprint("shop", __name__)

    @shop.get("/shop")
    def view() -> str:
        @flask.after_this_request
        def of_the_request(response: flask.Response) -> flask.Response:
            response.set_cookie("language", "de")
            return response

        flask.session["sold"] = 1
        return "sold"

    @shop.after_request
    def of_the_blueprint(response: flask.Response) -> flask.Response:
        response.headers.add("Order", "blueprint")
        return response

    @app.after_request
    def of_the_app(response: flask.Response) -> flask.Response:
        response.headers.add("Order", "app")
        response.headers["Access-Control-Allow-Origin"] = "https://shop.example"
        return response

    @app.after_request
    def with_the_session(response: flask.Response) -> flask.Response:
        response.headers["Value"] = str(flask.session.get("sold"))
        return response

    app.register_blueprint(shop)
    client = app.test_client()
    client.set_cookie("session", store_session(store))
    response = client.get("/shop")
    assert response.status_code == 503
    assert response.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert response.headers.get_all("Order") == ["blueprint", "app"]
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Set-Cookie"].startswith("language=de;")
    assert "Value" not in response.headers


def test_a_request_waits_for_a_failing_store_only_once(store: RedisStore) -> None:
    failing = FailingStore(store, {"read"})
    client = make_app(failing).test_client()
    client.set_cookie("session", store_session(store))
    response = client.get("/stubborn")
    assert (response.status_code, failing.calls) == (200, 1)
    assert "Set-Cookie" not in response.headers


def test_a_write_to_a_session_that_ended_meanwhile_is_401(client: FlaskClient, store: RedisStore) -> None:
    client.get("/set")
    response = client.get("/ended-meanwhile")
    assert response.status_code == 401
    assert "Set-Cookie" not in response.headers
    assert client.get("/get").text == "None"


def test_an_unsupported_type_is_an_error_only_in_the_log(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    response = client.get("/bad")
    assert response.status_code == 500
    assert "TypeError: session['basket'] holds a set" in caplog.text
    assert "basket" not in response.text
    assert "Request finalizing failed" not in caplog.text
