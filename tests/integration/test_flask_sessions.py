"""The session layer in an independent app: two lines, and Flask's own settings."""

from contextlib import suppress

import flask
import pytest
from anynode.sessions import SessionStoreError, SharedSessionInterface
from anynode.sessions.ids import make_id
from lib.demo_app import redis_store


class FailingStore:
    """Fails in the named methods, and counts these calls."""

    def __init__(self, store, failing):
        self._store, self._failing, self.calls = store, failing, 0

    def __getattr__(self, name):
        if name not in self._failing:
            return getattr(self._store, name)

        def fail(*args, **kwargs):
            self.calls += 1
            raise SessionStoreError

        return fail


def make_app(store):
    app = flask.Flask("guest")
    app.session_interface = SharedSessionInterface(store)

    @app.get("/set")
    def set_value():
        flask.session["a"] = flask.session.get("a", 0) + 1
        return "set"

    @app.get("/get")
    def get_value():
        return str(flask.session.get("a"))

    @app.get("/untouched")
    def untouched():
        return "untouched"

    @app.get("/headers")
    def headers():
        return str(flask.session.get("a")), {"Vary": "Accept", "Cache-Control": "max-age=60"}

    @app.get("/bad")
    def bad():
        flask.session["basket"] = {1, 2}
        return "bad"

    @app.get("/stubborn")
    def stubborn():
        for _ in range(3):
            with suppress(SessionStoreError):
                flask.session["a"] = 2
        return "without a session"

    @app.get("/ended-meanwhile")
    def ended_meanwhile():
        flask.session["a"] = 2
        store.delete(flask.request.cookies["session"])
        return "written"

    return app


@pytest.fixture
def store(redis):
    return redis_store(redis)


@pytest.fixture
def client(store):
    return make_app(store).test_client()


def test_values_survive_and_the_cookie_is_set_once(client) -> None:
    assert "Set-Cookie" in client.get("/set").headers
    second = client.get("/set")
    assert "Set-Cookie" not in second.headers
    assert client.get("/get").text == "2"


def test_responses_that_used_the_session_are_not_cached(client) -> None:
    response = client.get("/get")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Vary"] == "Cookie"
    response = client.get("/untouched")
    assert "Cache-Control" not in response.headers
    assert "Vary" not in response.headers


def test_cache_headers_of_a_view_are_kept(client) -> None:
    response = client.get("/headers")
    assert response.headers["Vary"] == "Accept, Cookie"
    assert response.headers["Cache-Control"] == "max-age=60, no-store"


def test_an_unused_session_needs_no_command(client, redis) -> None:
    client.get("/set")
    with redis.monitor() as seen:
        client.get("/untouched")
    assert seen.sent == []


@pytest.mark.parametrize("cookie", ["x", "A" * 44, "A" * 46, "A" * 44 + "!", "A" * 3900, "A" * 44 + "é", "../" * 15])
def test_a_cookie_that_is_not_an_id_never_reaches_the_store(client, redis, cookie) -> None:
    client.set_cookie("session", cookie)
    with redis.monitor() as seen:
        assert client.get("/get").text == "None"
    assert seen.sent == []


def test_a_forged_id_is_not_adopted(client) -> None:
    forged = make_id()
    client.set_cookie("session", forged)
    assert client.get("/get").text == "None"
    client.get("/set")
    assert client.get_cookie("session").value != forged


@pytest.mark.parametrize(("path", "failing"), [("/get", "read"), ("/set", "create"), ("/set", "update")])
def test_a_failing_store_is_503_in_an_app_without_a_handler(store, path, failing) -> None:
    failing = FailingStore(store, {failing})
    client = make_app(failing).test_client()
    if failing._failing != {"create"}:
        client.set_cookie("session", store_session(store))
    response = client.get(path)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert "Set-Cookie" not in response.headers
    assert failing.calls == 1


def store_session(store) -> str:
    session_id = make_id()
    store.create(session_id, {"a": "1"})
    return session_id


@pytest.mark.parametrize("failing", ["read", "update"])
def test_an_app_can_handle_store_errors_during_and_after_the_view(store, failing) -> None:
    failing = FailingStore(store, {failing})
    app = make_app(failing)
    caught = []

    @app.errorhandler(SessionStoreError)
    def answer(error):
        caught.append(error)
        return {"handled": True}, 503

    client = app.test_client()
    client.set_cookie("session", store_session(store))
    response = client.get("/set")
    assert (response.status_code, response.json) == (503, {"handled": True})
    assert len(caught) == failing.calls == 1


def test_a_request_waits_for_a_failing_store_only_once(store) -> None:
    failing = FailingStore(store, {"read"})
    client = make_app(failing).test_client()
    client.set_cookie("session", store_session(store))
    response = client.get("/stubborn")
    assert (response.status_code, failing.calls) == (200, 1)
    assert "Set-Cookie" not in response.headers


def test_a_write_to_a_session_that_ended_meanwhile_is_401(client, store) -> None:
    client.get("/set")
    response = client.get("/ended-meanwhile")
    assert response.status_code == 401
    assert "Set-Cookie" not in response.headers
    assert client.get("/get").text == "None"


def test_an_unsupported_type_is_an_error_only_in_the_log(client, caplog) -> None:
    response = client.get("/bad")
    assert response.status_code == 500
    assert "TypeError: session['basket'] holds a set" in caplog.text
    assert "basket" not in response.text
    assert "Request finalizing failed" not in caplog.text
