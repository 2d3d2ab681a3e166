"""`flask.session` behaves as Flask documents it: Flask's own sessions and ours must pass the same tests.

The intended differences of ours are at the end, and in docs/reference/session-layer.md.
"""

import datetime
import enum
import uuid
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import Flask
from flask.globals import request_ctx
from flask.sessions import SecureCookieSessionInterface, SessionInterface
from flask.testing import FlaskClient
from flask_shared_session import SessionStoreError, SharedSessionInterface, current_session
from flask_shared_session.ids import make_id
from lib.demo_app import redis_store, store_of
from lib.redis_server import RedisServer
from markupsafe import Markup
from werkzeug.test import TestResponse
from werkzeug.wrappers import Response as BaseResponse

LIFETIME = 1000


def make_app(interface: SessionInterface | None = None, name: str = "guest") -> Flask:
    app = flask.Flask(name)
    app.secret_key = "only Flask's own sessions need one"
    app.testing = True
    app.session_interface = interface or SecureCookieSessionInterface()

    @app.get("/set/<key>/<value>")
    def set_value(key: str, value: str) -> str:
        flask.session[key] = value
        return ""

    @app.get("/get/<key>")
    def get_value(key: str) -> str:
        return str(flask.session.get(key))

    @app.get("/permanent/<any(on, off):switch>")
    def permanent(switch: str) -> str:
        flask.session.permanent = switch == "on"
        return ""

    @app.get("/clear")
    def clear() -> str:
        flask.session.clear()
        return ""

    @app.get("/untouched")
    def untouched() -> str:
        return ""

    return app


@pytest.fixture
def ours(redis: RedisServer) -> Flask:
    return make_app(SharedSessionInterface(redis_store(redis, lifetime=LIFETIME)))


@pytest.fixture(params=["flask", "ours"])
def app(request: pytest.FixtureRequest) -> Flask:
    return make_app() if request.param == "flask" else request.getfixturevalue("ours")


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def cookie_of(response: TestResponse) -> dict[str, str]:
    """The attributes of the cookie that the response sets, in lower case; empty without a cookie."""
    parts = response.headers.get("Set-Cookie", "").lower().split("; ")
    return dict((part.partition("=")[::2]) for part in parts if part)


# The mapping


def test_a_session_is_a_mapping(app: Flask) -> None:
    with app.test_request_context():
        session = flask.session
        assert not session
        session.update(a=1, b=2)
        assert session.setdefault("a", 5) == 1
        assert session.setdefault("c", 3) == 3
        assert session.pop("b") == 2
        assert session.pop("b", None) is None
        assert session.get("b") is None
        assert "a" in session and "b" not in session
        assert session == {"a": 1, "c": 3} == {**session}
        assert sorted(session) == ["a", "c"] and len(session) == 2
        for miss in (lambda: session["b"], lambda: session.pop("b"), lambda: session.__delitem__("b")):
            with pytest.raises(KeyError):
                miss()


def test_values_are_available_to_the_next_request_of_the_same_client_only(app: Flask, client: FlaskClient) -> None:
    client.get("/set/a/1")
    assert client.get("/get/a").text == "1"
    assert app.test_client().get("/get/a").text == "None"


def test_templates_read_values_by_attribute_and_by_item(app: Flask, client: FlaskClient) -> None:
    app.add_url_rule(
        "/page", view_func=lambda: flask.render_template_string("{{ session.a }}{{ session['a'] }}{{ session.b }}")
    )
    client.get("/set/a/1")
    assert client.get("/page").text == "11"


def test_a_redirect_keeps_the_session(app: Flask, client: FlaskClient) -> None:
    @app.get("/redirect")
    def redirect() -> BaseResponse:
        flask.session["a"] = "1"
        return flask.redirect("/get/a")

    assert client.get("/redirect", follow_redirects=True).text == "1"


# accessed, modified, new


def test_a_session_knows_whether_it_was_accessed_and_modified(app: Flask) -> None:
    with app.test_request_context():
        session = request_ctx._session
        assert session is not None
        assert not session.accessed
        assert not flask.session.modified
        assert session.accessed
        assert flask.session.get("a") is None
        assert not session.modified
        flask.session["a"] = 1
        assert session.modified


@pytest.mark.parametrize("change", ["pop", "clear", "setdefault", "update", "popitem"])
def test_every_method_that_changes_the_session_sets_modified(app: Flask, client: FlaskClient, change: str) -> None:
    all_arguments: dict[str, list[Any]] = {"pop": ["a"], "setdefault": ["b", 1], "update": [{"a": "2"}]}
    arguments = all_arguments.get(change, [])

    @app.get("/change")
    def view() -> str:
        assert flask.session["a"] == "1"
        assert not flask.session.modified
        getattr(flask.session, change)(*arguments)
        assert flask.session.modified
        return ""

    client.get("/set/a/1")
    client.get("/change")


def test_nested_changes_are_saved_with_modified_set(app: Flask, client: FlaskClient) -> None:
    @app.get("/append")
    def append() -> str:
        flask.session.setdefault("list", []).append(1)
        flask.session.modified = True
        return str(len(flask.session["list"]))

    assert [client.get("/append").text for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize("path", ["/get/a", "/untouched"])
def test_a_client_without_a_session_gets_no_cookie(client: FlaskClient, path: str) -> None:
    assert "Set-Cookie" not in client.get(path).headers


# The cookie

SETTINGS = {
    "SESSION_COOKIE_NAME": "shop",
    "SESSION_COOKIE_DOMAIN": "example.com",
    "SESSION_COOKIE_PATH": "/shop",
    "SESSION_COOKIE_SECURE": True,
    "SESSION_COOKIE_SAMESITE": "Strict",
    "SESSION_COOKIE_PARTITIONED": True,
}
ATTRIBUTES = {"domain": "example.com", "path": "/shop", "secure": "", "samesite": "strict", "partitioned": ""}


@pytest.mark.parametrize("http_only", [True, False])
def test_the_cookie_has_the_configured_attributes_also_when_deleted(
    app: Flask, client: FlaskClient, http_only: bool
) -> None:
    app.config.update(SETTINGS, SESSION_COOKIE_HTTPONLY=http_only)
    where = {"base_url": "https://www.example.com", "environ_overrides": {"SCRIPT_NAME": "/shop"}}
    expected = ATTRIBUTES | ({"httponly": ""} if http_only else {})
    made = cookie_of(client.get("/set/a/1", **where))
    ended = cookie_of(client.get("/clear", **where))
    assert made.pop("shop") and ended.pop("shop") == ""
    assert made == expected
    assert ended.pop("max-age") == "0" and ended.pop("expires")
    assert ended == expected
    assert client.get("/get/a", **where).text == "None"


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({}, "/"),
        ({"APPLICATION_ROOT": "/shop"}, "/shop"),
        ({"APPLICATION_ROOT": "/shop", "SESSION_COOKIE_PATH": "/"}, "/"),
    ],
)
def test_the_cookie_path_defaults_to_the_application_root(
    app: Flask, client: FlaskClient, settings: dict[str, Any], path: str
) -> None:
    app.config.update(settings)
    assert cookie_of(client.get("/set/a/1"))["path"] == path


@pytest.mark.parametrize(("samesite", "expected"), [(None, None), ("Lax", "lax"), ("Strict", "strict")])
def test_same_site(app: Flask, client: FlaskClient, samesite: str | None, expected: str | None) -> None:
    app.config["SESSION_COOKIE_SAMESITE"] = samesite
    assert cookie_of(client.get("/set/a/1")).get("samesite") == expected


def test_an_invalid_setting_of_same_site_is_an_error(app: Flask, client: FlaskClient) -> None:
    app.config["SESSION_COOKIE_SAMESITE"] = "sometimes"
    with pytest.raises(ValueError, match="SameSite"):
        client.get("/set/a/1")


def test_an_interface_may_choose_the_cookie_by_the_request(app: Flask, client: FlaskClient) -> None:
    kind = type(app.session_interface)
    chosen = type("Chosen", (kind,), {"get_cookie_name": lambda self, app: flask.request.args.get("shop", "session")})
    app.session_interface.__class__ = chosen
    client.get("/set/a/1")
    client.get("/set/a/2?shop=other")
    assert [client.get(path).text for path in ("/get/a", "/get/a?shop=other")] == ["1", "2"]


@pytest.mark.parametrize("cookie", ["", "x", "A" * 45, "é", "a.b.c", "x" * 4000, '"', pytest.param(make_id(), id="id")])
def test_a_foreign_cookie_is_an_empty_session(client: FlaskClient, cookie: str) -> None:
    client.set_cookie("session", cookie)
    assert client.get("/get/a").text == "None"
    client.get("/set/a/1")
    assert client.get("/get/a").text == "1"


# Vary


@pytest.mark.parametrize("path", ["/set/a/1", "/get/a", "/clear", "/permanent/on"])
def test_responses_that_used_the_session_vary_on_cookie(client: FlaskClient, path: str) -> None:
    for _ in range(2):
        assert client.get(path).headers.getlist("Vary") == ["Cookie"]


def test_responses_without_the_session_do_not_vary(client: FlaskClient) -> None:
    client.get("/set/a/1")
    assert "Vary" not in client.get("/untouched").headers


@pytest.mark.parametrize("own", ["Cookie", "Accept-Encoding, Accept-Language"])
def test_cookie_is_added_to_the_vary_header_of_the_app(app: Flask, client: FlaskClient, own: str) -> None:
    @app.get("/own")
    def view() -> tuple[str, dict[str, str]]:
        flask.session["a"] = 1
        return "", {"Vary": own}

    (vary,) = client.get("/own").headers.getlist("Vary")
    assert vary.split(", ") == list(dict.fromkeys([*own.split(", "), "Cookie"]))


# permanent


def test_a_cookie_ends_with_the_browser_unless_the_session_is_permanent(client: FlaskClient) -> None:
    made = cookie_of(client.get("/set/a/1"))
    assert "max-age" not in made and "expires" not in made
    made = cookie_of(client.get("/permanent/on"))
    assert "max-age" in made or "expires" in made
    made = cookie_of(client.get("/permanent/off"))
    assert "session" in made and "max-age" not in made and "expires" not in made
    assert client.get("/get/a").text == "1"


def test_permanence_is_remembered_until_the_session_is_cleared(app: Flask, client: FlaskClient) -> None:
    app.add_url_rule("/", view_func=lambda: str(flask.session.permanent))
    assert client.get("/").text == "False"
    client.get("/set/a/1")
    client.get("/permanent/on")
    assert client.get("/").text == "True"
    client.get("/clear")
    assert client.get("/").text == "False"


@pytest.mark.parametrize("permanent", [True, False])
def test_a_read_sets_no_cookie_without_refresh_each_request(app: Flask, client: FlaskClient, permanent: bool) -> None:
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    client.get("/set/a/1")
    client.get(f"/permanent/{'on' if permanent else 'off'}")
    assert "Set-Cookie" not in client.get("/get/a").headers


# Contexts in which the session can be used


def test_the_session_is_saved_after_all_callbacks(app: Flask, client: FlaskClient) -> None:
    @app.after_request
    def count(response: flask.Response) -> flask.Response:
        flask.session["n"] = flask.session.get("n", 0) + 1
        return response

    assert [client.get("/get/n").text for _ in range(3)] == ["None", "1", "2"]


def test_the_session_is_available_in_before_request_and_in_its_response(app: Flask, client: FlaskClient) -> None:
    @app.before_request
    def count() -> str | None:
        flask.session["n"] = flask.session.get("n", 0) + 1
        return "early" if flask.session["n"] == 3 else None

    assert [client.get("/get/n").text for _ in range(4)] == ["1", "2", "early", "4"]


def test_the_session_can_be_read_but_not_saved_in_teardown(app: Flask, client: FlaskClient) -> None:
    seen = []

    @app.teardown_request
    def note(error: BaseException | None) -> None:
        seen.append(flask.session.get("a"))
        flask.session["a"] = "late"

    client.get("/set/a/1")
    client.get("/get/a")
    assert seen == ["1", "1"]


def test_the_session_is_saved_when_the_view_aborts(app: Flask, client: FlaskClient) -> None:
    @app.get("/abort")
    def view() -> str:
        flask.session["a"] = "1"
        flask.abort(403)

    assert client.get("/abort").status_code == 403
    assert client.get("/get/a").text == "1"


def test_the_session_is_saved_when_the_view_raises(app: Flask, client: FlaskClient) -> None:
    app.testing = False

    @app.get("/fail")
    def view() -> str:
        flask.session["a"] = "1"
        raise RuntimeError

    assert client.get("/fail").status_code == 500
    assert client.get("/get/a").text == "1"


def test_a_url_converter_can_use_the_session(app: Flask, client: FlaskClient) -> None:
    from werkzeug.routing import BaseConverter

    class Mine(BaseConverter):
        def to_python(self, value: str) -> str:
            return f"{flask.session.get('a', 'nothing')}{value}"

    app.url_map.converters["mine"] = Mine
    app.add_url_rule("/mine/<mine:value>", view_func=lambda value: value)
    client.get("/set/a/1")
    assert client.get("/mine/x").text == "1x"


def test_a_streamed_response_can_read_the_session(app: Flask, client: FlaskClient) -> None:
    @app.get("/stream")
    def stream() -> flask.Response:
        @flask.stream_with_context
        def generate(before: str) -> Iterator[str]:
            yield before
            yield flask.session["a"]

        return flask.Response(generate(flask.session["a"]))

    client.get("/set/a/1")
    assert client.get("/stream").text == "11"


def test_a_copied_request_context_shares_the_session(app: Flask, client: FlaskClient) -> None:
    @app.get("/copy")
    def copied() -> str:
        flask.session["b"] = "2"

        @flask.copy_current_request_context
        def work() -> str:
            return f"{flask.session['a']}{flask.session['b']}"

        return work()

    client.get("/set/a/1")
    assert client.get("/copy").text == "12"


def test_an_app_context_inside_a_request_has_the_same_session(app: Flask) -> None:
    with app.test_request_context():
        flask.session["a"] = 1
        with app.app_context():
            assert flask.session["a"] == 1
        assert flask.session["a"] == 1


def test_a_request_inside_a_request_has_its_own_session(app: Flask) -> None:
    with app.test_request_context():
        flask.session["a"] = "outer"
        with app.test_request_context():
            assert "a" not in flask.session
            flask.session["a"] = "inner"
        app.test_client().get("/set/a/client")
        assert flask.session["a"] == "outer"


def test_no_session_exists_outside_a_request(app: Flask) -> None:
    with app.app_context(), pytest.raises(RuntimeError, match="request context"):
        flask.session.get("a")


def test_two_apps_in_one_process_have_their_own_sessions(app: Flask, client: FlaskClient, redis: RedisServer) -> None:
    store = redis_store(redis, lifetime=LIFETIME)
    other = make_app(type(app.session_interface)(*([store] if "Shared" in str(app.session_interface) else [])), "other")
    other.config["SESSION_COOKIE_NAME"] = "other"
    seen = []

    @app.get("/query-the-other")
    def query() -> str:
        seen.append(other.test_client().get("/get/a").text)
        return str(flask.session["a"])

    client.get("/set/a/1")
    assert client.get("/query-the-other").text == "1"
    assert seen == ["None"]


# The test client


def test_a_test_may_write_and_read_the_session(client: FlaskClient) -> None:
    with client.session_transaction() as session:
        assert len(session) == 0
        session["a"] = ["1"]
    assert client.get("/get/a").text == "['1']"
    client.get("/set/b/2")
    with client.session_transaction() as session:
        assert session == {"a": ["1"], "b": "2"}
        session.clear()
    assert client.get("/get/a").text == "None"


def test_a_test_can_read_the_session_of_the_last_request(client: FlaskClient) -> None:
    with client:
        client.get("/set/a/1")
        assert flask.session["a"] == "1"


def test_a_test_client_without_cookies_has_no_session(app: Flask) -> None:
    client = app.test_client(use_cookies=False)
    with pytest.raises(TypeError, match="Cookies are disabled"), client.session_transaction():
        pass


# Flashed messages


def flash_and_get(app: Flask, messages: list[tuple[str, str]], **how: Any) -> tuple[Any, Any]:
    """The result of get_flashed_messages in the next request and in the request after it."""

    @app.get("/flash")
    def flash() -> str:
        for category, message in messages:
            flask.flash(message, category)
        return ""

    @app.get("/flashed")
    def flashed() -> flask.Response:
        return flask.jsonify(flask.get_flashed_messages(**how))

    client = app.test_client()
    client.get("/flash")
    return client.get("/flashed").json, client.get("/flashed").json


MESSAGES = [("message", "one"), ("error", "two"), ("message", "three")]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, ["one", "two", "three"]),
        ({"with_categories": True}, [["message", "one"], ["error", "two"], ["message", "three"]]),
        ({"category_filter": ["error"]}, ["two"]),
        ({"category_filter": ["message"], "with_categories": True}, [["message", "one"], ["message", "three"]]),
    ],
)
def test_flashed_messages_are_returned_once(app: Flask, how: dict[str, Any], expected: list[Any]) -> None:
    assert flash_and_get(app, MESSAGES, **how) == (expected, [])


def test_a_template_unpacks_flashed_messages(app: Flask, client: FlaskClient) -> None:
    page = (
        "{% for category, message in get_flashed_messages(with_categories=true) %}{{ category }}={{ message }};"
        "{% endfor %}"
    )

    @app.get("/flash")
    def flash() -> str:
        flask.flash("<one>", "error")
        return ""

    app.add_url_rule("/page", view_func=lambda: flask.render_template_string(page))
    client.get("/flash")
    assert client.get("/page").text == "error=&lt;one&gt;;"


def test_flashed_messages_of_the_same_request(app: Flask) -> None:
    with app.test_request_context():
        flask.flash("one")
        flask.flash("two")
        assert flask.session.modified
        assert flask.get_flashed_messages() == ["one", "two"]
        assert flask.get_flashed_messages() == ["one", "two"], "they remain for this request"


# Intended differences: the table in docs/reference/session-layer.md


def test_ours_need_no_secret_key(ours: Flask) -> None:
    ours.secret_key = None
    client = ours.test_client()
    client.get("/set/a/1")
    assert client.get("/get/a").text == "1"


def test_ours_detect_nested_changes_without_modified(ours: Flask) -> None:
    @ours.get("/append")
    def append() -> list[Any]:
        before = flask.session.modified
        flask.session.setdefault("list", []).append(1)
        return [before, flask.session.modified, len(flask.session["list"])]

    client = ours.test_client()
    assert [client.get("/append").json for _ in range(2)] == [[False, True, 1], [False, True, 2]]


def test_ours_write_nothing_and_set_no_cookie_for_modified_without_a_change(ours: Flask, redis: RedisServer) -> None:
    @ours.get("/claim")
    def claim() -> str:
        flask.session.modified = True
        return str(flask.session["a"])

    client = ours.test_client()
    client.get("/set/a/1")
    with redis.monitor() as seen:
        assert "Set-Cookie" not in client.get("/claim").headers
    assert len(seen.sent) == 1


def test_ours_know_whether_they_are_new(ours: Flask) -> None:
    client = ours.test_client()

    @ours.get("/new")
    def new() -> str:
        flask.session["a"] = 1
        return str(flask.session.new)

    assert [client.get("/new").text for _ in range(2)] == ["True", "False"]
    client.set_cookie("session", make_id())
    assert client.get("/new").text == "True", "the id of the request doesn't exist"


@pytest.mark.parametrize(("requested", "granted"), [(60, 60), (31 * 24 * 3600, LIFETIME)])
def test_ours_limit_a_permanent_cookie_to_the_lifetime_of_the_store(ours: Flask, requested: int, granted: int) -> None:
    ours.config["PERMANENT_SESSION_LIFETIME"] = datetime.timedelta(seconds=requested)
    client = ours.test_client()
    made = cookie_of(client.get("/set/a/1"))
    assert "max-age" not in made
    made = cookie_of(client.get("/permanent/on"))
    assert made["max-age"] == str(granted)
    client.get("/clear")
    with client.session_transaction() as session:
        session["a"] = 1
        session.permanent = True
    cookie = client.get_cookie("session")
    assert cookie and cookie.max_age == granted


def test_ours_keep_a_permanent_cookie_permanent_under_a_new_id(ours: Flask) -> None:
    @ours.get("/rotate")
    def rotate() -> str:
        current_session.rotate()
        return ""

    client = ours.test_client()
    client.get("/set/a/1")
    client.get("/permanent/on")
    assert cookie_of(client.get("/rotate"))["max-age"] == str(LIFETIME)


def test_ours_set_a_permanent_cookie_for_a_session_saved_before_the_store_failed(
    ours: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(ours)

    def fail(*arguments: object) -> None:
        raise SessionStoreError

    @ours.get("/saved-then-lost")
    def saved_then_lost() -> str:
        flask.session.permanent = True
        flask.session["a"] = 1
        current_session.save()
        monkeypatch.setattr(store, "update", fail)
        flask.session["a"] = 2
        return "never sent"

    response = ours.test_client().get("/saved-then-lost")
    assert response.status_code == 503
    assert cookie_of(response)["max-age"] == str(LIFETIME)


def test_ours_set_the_cookie_only_when_its_id_or_persistence_changes(ours: Flask) -> None:
    client = ours.test_client()
    made = [bool(cookie_of(client.get(path))) for path in ["/set/a/1", "/permanent/on"]]
    assert made == [True, True]
    for path in ("/permanent/on", "/set/a/2", "/get/a", "/untouched"):
        assert "Set-Cookie" not in client.get(path).headers
    assert "Set-Cookie" not in ours.test_client().get("/clear").headers, "no cookie to delete"


def test_ours_do_not_start_because_an_app_makes_all_sessions_permanent(ours: Flask, redis: RedisServer) -> None:
    @ours.before_request
    def make_permanent() -> None:
        flask.session.permanent = True

    client = ours.test_client()
    with redis.monitor() as seen:
        for path in ("/get/a", "/clear"):
            assert "Set-Cookie" not in client.get(path).headers
    assert seen.sent == []
    assert cookie_of(client.get("/set/a/1"))["max-age"] == str(LIFETIME)
    assert cookie_of(client.get("/clear"))["max-age"] == "0"
    assert redis.session_keys() == []


def test_ours_persist_when_the_last_value_is_removed(ours: Flask, redis: RedisServer) -> None:
    @ours.get("/pop")
    def pop() -> str:
        flask.session.pop("a")
        return ""

    client = ours.test_client()
    client.get("/set/a/1")
    assert "Set-Cookie" not in client.get("/pop").headers
    assert len(redis.session_keys()) == 1, "another request may be writing to it"


class Color(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize("value", ["text", 1, 1.5, True, None, [1, [2]], {"a": {"b": [None]}}, Color.RED])
def test_json_values_are_restored(client: FlaskClient, value: Any) -> None:
    with client.session_transaction() as session:
        session["a"] = value
    with client.session_transaction() as session:
        assert session["a"] == value


def test_in_ours_a_tuple_becomes_a_list(ours: Flask) -> None:
    client = ours.test_client()
    with client.session_transaction() as session:
        session["a"] = (1, (2, 3))
        assert session["a"] == (1, (2, 3))
    with client.session_transaction() as session:
        assert session["a"] == [1, [2, 3]]
        assert not session.modified


@pytest.mark.parametrize(
    "value",
    [b"bytes", uuid.uuid4(), datetime.datetime.now(datetime.UTC), {1, 2}, {1: "int key"}, object()],
    ids=lambda value: type(value).__name__,
)
def test_in_ours_an_unsupported_value_is_an_error_that_names_the_key(ours: Flask, value: Any) -> None:
    client = ours.test_client()
    for nested in (value, [value], {"x": value}):
        with (
            pytest.raises(TypeError, match=r"session\['basket'\].*: (store|use) .*str"),
            client.session_transaction() as session,
        ):
            session["basket"] = nested


class LazyString:
    """A lazy translation, as Flask-Babel and Flask-Login's login_message have it."""

    def __str__(self) -> str:
        return "Bitte anmelden"


class Html:
    def __html__(self) -> str:
        return "<b>"

    def __str__(self) -> str:
        return "bold"


@pytest.mark.parametrize(
    ("value", "text"), [(Markup("<b>"), "<b>"), (LazyString(), "Bitte anmelden"), (Html(), "bold")], ids=str
)
def test_in_ours_texts_of_other_types_become_plain_texts(ours: Flask, value: Any, text: str) -> None:
    """Flask's cookie keeps Markup, and turns the others into Markup; a page of ours escapes them."""

    @ours.get("/flash")
    def view() -> str:
        flask.flash(value)
        flask.session["nested"] = [{"a": value}]
        return ""

    client = ours.test_client()
    assert client.get("/flash").status_code == 200
    with client.session_transaction() as session:
        assert session["_flashes"] == [["message", text]]
        assert session["nested"] == [{"a": text}]
        assert type(session["_flashes"][0][1]) is str
        assert not session.modified


def test_in_a_template_attributes_of_ours_hide_values(ours: Flask) -> None:
    page = "{{ session.user }} {{ session['user'] }}"
    ours.add_url_rule("/page", view_func=lambda: flask.render_template_string(page))
    client = ours.test_client()
    client.get("/set/user/ada")
    assert client.get("/page").text == "None ada"
