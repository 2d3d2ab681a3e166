"""The apps in examples/, which docs/how-to explains, each as two nodes on one Redis."""

from pathlib import Path
from types import ModuleType
from typing import Any

import flask_login_app
import plain_flask
import pytest
from flask import Flask
from flask_login import LoginManager, login_user
from lib.browser import Browser
from lib.demo_app import HASH, PASSWORD, USER, admin_client, store_of
from lib.redis_server import REDIS_PASSWORD, RedisServer, free_port

ROOT = Path(__file__).resolve().parents[2]
COOKIE = "__Host-session"
USERS = {USER: HASH, "bob": HASH}


def create_app(module: ModuleType, port: int) -> Flask:
    """Return an example's app. port: of Redis."""
    redis = f"redis://admin:{REDIS_PASSWORD}@127.0.0.1:{port}" if module is plain_flask else admin_client(port)
    app: Flask = module.create_app(redis, USERS)
    return app


@pytest.fixture(params=[plain_flask, flask_login_app], ids=["plain", "flask_login"])
def nodes(request: pytest.FixtureRequest, redis: RedisServer) -> list[Flask]:
    return [create_app(request.param, redis.port) for _ in range(2)]


@pytest.fixture
def login_nodes(redis: RedisServer) -> list[Flask]:
    return [flask_login_app.create_app(admin_client(redis.port), USERS) for _ in range(2)]


def logged_in(app: Flask, name: str = USER, browser: Browser | None = None) -> Browser:
    browser = browser or Browser()
    assert browser.post(app, "/login", name=name, password=PASSWORD).json == {"user": name}
    return browser


def user_of(browser: Browser, app: Flask) -> str | None:
    user: str | None = browser.get(app, "/me").get_json()["user"]
    return user


# Both examples


def test_logins_and_logouts_are_valid_on_the_other_node(nodes: list[Flask]) -> None:
    browser = logged_in(nodes[0])
    stolen = browser.fork()
    assert [user_of(browser, each) for each in nodes] == [USER, USER]
    browser.post(nodes[1], "/logout")
    assert browser.cookies == {}
    assert [user_of(stolen, each) for each in nodes] == [None, None]


def test_a_wrong_password_is_401(nodes: list[Flask]) -> None:
    browser = Browser()
    for name, password in ((USER, "wrong"), ("nobody", PASSWORD)):
        assert browser.post(nodes[0], "/login", name=name, password=password).status_code == 401
    assert browser.cookies == {}


@pytest.mark.parametrize("again", [USER, "bob"])
def test_a_login_gets_a_new_id_and_invalidates_the_old_id(nodes: list[Flask], again: str) -> None:
    browser = logged_in(nodes[0])
    stolen = browser.fork()
    logged_in(nodes[1], again, browser)
    assert browser.cookies[COOKIE] != stolen.cookies[COOKIE]
    assert [user_of(browser, each) for each in nodes] == [again, again]
    assert [user_of(stolen, each) for each in nodes] == [None, None]


def test_the_other_sessions_can_be_ended(nodes: list[Flask]) -> None:
    browser, other, bob = logged_in(nodes[0]), logged_in(nodes[0]), logged_in(nodes[0], "bob")
    assert browser.post(nodes[1], "/sessions/end").status_code == 200
    assert [user_of(each, nodes[0]) for each in (browser, other, bob)] == [USER, None, "bob"]


@pytest.mark.parametrize("module", [plain_flask, flask_login_app])
def test_an_unavailable_redis_is_503(module: ModuleType) -> None:
    app = create_app(module, free_port())
    browser = Browser({COOKIE: "A" * 45})
    for response in (browser.get(app, "/me"), browser.post(app, "/login", name=USER, password=PASSWORD)):
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert browser.cookies, "the session cookie is kept"


@pytest.mark.parametrize("module", [plain_flask, flask_login_app])
def test_a_page_without_a_session_needs_no_command(module: ModuleType, redis: RedisServer) -> None:
    app = create_app(module, redis.port)
    app.add_url_rule("/static-page", "static_page", lambda: "static")
    browser = logged_in(app)
    with redis.monitor() as seen:
        response = browser.get(app, "/static-page")
    assert (response.status_code, seen.sent) == (200, [])
    assert "Cache-Control" not in response.headers


# The plain example


def test_new_privileges_come_with_a_new_id(redis: RedisServer) -> None:
    app = create_app(plain_flask, redis.port)
    browser = logged_in(app)
    stolen = browser.fork()
    assert browser.post(app, "/admin", password="wrong").status_code == 401
    assert browser.post(app, "/admin", password=PASSWORD).json == {"user": USER, "is_admin": True}
    assert browser.get(app, "/me").json == {"user": USER, "is_admin": True}
    assert stolen.get(app, "/me").json == {"user": None, "is_admin": False}


def test_a_single_other_session_can_be_ended(redis: RedisServer) -> None:
    app = create_app(plain_flask, redis.port)
    first, second, third = (logged_in(app) for _ in range(3))
    handle = second.get(app, "/sessions").get_json()[1]["handle"]
    assert len(first.post(app, "/sessions/end", handle=handle).get_json()) == 2
    assert [user_of(each, app) for each in (first, second, third)] == [USER, None, USER]


# Flask-Login


def stock_app(**changes: Any) -> Flask:
    """Unmodified Flask-Login with Flask's signed cookies."""
    app = Flask("stock")
    app.config.update(SECRET_KEY="secret", **changes)
    LoginManager(app).user_loader(flask_login_app.User)
    app.add_url_rule(
        "/login", methods=["POST"], view_func=lambda: str(login_user(flask_login_app.User(USER), remember=True))
    )
    return app


def test_a_remember_me_cookie_gives_no_access(login_nodes: list[Flask], redis: RedisServer) -> None:
    browser = Browser()
    browser.post(stock_app(), "/login")
    remembered = Browser({"remember_token": browser.cookies["remember_token"]})
    login_nodes[0].secret_key = "secret"
    assert user_of(remembered, login_nodes[0]) is None
    assert redis.session_keys() == []


@pytest.fixture
def unmodified(monkeypatch: pytest.MonkeyPatch, redis: RedisServer) -> Flask:
    """The example with unmodified Flask-Login."""
    monkeypatch.setattr(flask_login_app, "Logins", LoginManager)
    app = flask_login_app.create_app(admin_client(redis.port), USERS)
    app.secret_key = "secret"
    app.add_url_rule("/static-page", "static_page", lambda: "static")
    app.add_url_rule("/remember", view_func=lambda: str(login_user(flask_login_app.User(USER), remember=True)))
    return app


def test_control_a_remember_me_cookie_restores_an_ended_session(unmodified: Flask) -> None:
    browser = Browser()
    browser.get(unmodified, "/remember")
    store_of(unmodified).end_sessions(USER)
    assert user_of(browser, unmodified) == USER


def test_control_unmodified_flask_login_reads_after_each_request(unmodified: Flask) -> None:
    browser = logged_in(unmodified)
    assert browser.get(unmodified, "/static-page").headers["Cache-Control"] == "no-store"
    app = flask_login_app.create_app(admin_client(free_port()), USERS)
    assert browser.get(app, "/me").status_code == 500


def test_control_strong_protection_keeps_the_session_in_the_list(login_nodes: list[Flask]) -> None:
    login_nodes[0].config["SESSION_PROTECTION"] = "strong"
    browser = logged_in(login_nodes[0])
    browser.agent = "another"
    assert user_of(browser, login_nodes[0]) is None
    assert len(store_of(login_nodes[0]).sessions_of(USER)) == 1


def test_a_login_with_remember_gets_no_remember_me_cookie(login_nodes: list[Flask]) -> None:
    app = login_nodes[0]
    app.secret_key = "secret"
    app.add_url_rule("/remember", view_func=lambda: str(login_user(flask_login_app.User(USER), remember=True)))
    browser = Browser()
    assert browser.get(app, "/remember").text == "True"
    assert browser.cookies.keys() == {COOKIE}


def test_another_browser_must_confirm_the_password_to_end_other_sessions(login_nodes: list[Flask]) -> None:
    browser, other = logged_in(login_nodes[0]), logged_in(login_nodes[0])
    browser.agent = "another"
    assert user_of(browser, login_nodes[1]) == USER
    assert browser.post(login_nodes[1], "/sessions/end").status_code == 401
    assert user_of(other, login_nodes[0]) == USER
    stolen = browser.fork()
    assert browser.post(login_nodes[1], "/confirm", password=PASSWORD).status_code == 200
    assert browser.post(login_nodes[1], "/sessions/end").json == {"ended": 1}
    assert [user_of(each, login_nodes[0]) for each in (browser, stolen, other)] == [USER, None, None]


def test_a_removed_user_is_logged_out(login_nodes: list[Flask], redis: RedisServer) -> None:
    browser = logged_in(login_nodes[0])
    without = flask_login_app.create_app(admin_client(redis.port), {"bob": HASH})
    assert user_of(browser, without) is None
