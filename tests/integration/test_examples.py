"""The apps in examples/, which docs/how-to explains, each as two nodes on one Redis."""

import re
from pathlib import Path
from textwrap import indent

import flask_login_app
import plain_flask
import pytest
from anynode.redis_client import make_client
from flask import Flask
from flask_login import login_user
from lib.browser import Browser
from lib.demo_app import HASH, PASSWORD, USER
from lib.redis_server import REDIS_PASSWORD, free_port

ROOT = Path(__file__).resolve().parents[2]
COOKIE = "__Host-session"
USERS = {USER: HASH, "bob": HASH}


def redis_client(port):
    return make_client(host="127.0.0.1", port=port, username="admin", password=REDIS_PASSWORD)


@pytest.fixture(params=[plain_flask, flask_login_app], ids=["plain", "flask_login"])
def nodes(request, redis):
    return [request.param.create_app(redis_client(redis.port), USERS) for _ in range(2)]


@pytest.fixture
def login_nodes(redis):
    return [flask_login_app.create_app(redis_client(redis.port), USERS) for _ in range(2)]


def logged_in(app, name=USER, browser=None):
    browser = browser or Browser()
    assert browser.post(app, "/login", name=name, password=PASSWORD).json == {"user": name}
    return browser


def who(browser, app):
    return browser.get(app, "/me").json["user"]


# Both examples


def test_a_login_is_known_on_the_other_node_and_a_logout_too(nodes):
    browser = logged_in(nodes[0])
    stolen = browser.fork()
    assert [who(browser, each) for each in nodes] == [USER, USER]
    browser.post(nodes[1], "/logout")
    assert browser.cookies == {}
    assert [who(stolen, each) for each in nodes] == [None, None]


def test_a_wrong_password_is_401(nodes):
    browser = Browser()
    for name, password in ((USER, "wrong"), ("nobody", PASSWORD)):
        assert browser.post(nodes[0], "/login", name=name, password=password).status_code == 401
    assert browser.cookies == {}


@pytest.mark.parametrize("again", [USER, "bob"])
def test_a_login_has_a_new_id_and_the_old_one_is_dead(nodes, again):
    browser = logged_in(nodes[0])
    stolen = browser.fork()
    logged_in(nodes[1], again, browser)
    assert browser.cookies[COOKIE] != stolen.cookies[COOKIE]
    assert [who(browser, each) for each in nodes] == [again, again]
    assert [who(stolen, each) for each in nodes] == [None, None]


def test_the_other_sessions_can_be_ended(nodes):
    browser, other, bob = logged_in(nodes[0]), logged_in(nodes[0]), logged_in(nodes[0], "bob")
    assert browser.post(nodes[1], "/sessions/end").status_code == 200
    assert [who(each, nodes[0]) for each in (browser, other, bob)] == [USER, None, "bob"]


@pytest.mark.parametrize("module", [plain_flask, flask_login_app])
def test_redis_away_is_503_in_each(module):
    app = module.create_app(redis_client(free_port()), USERS)
    browser = Browser({COOKIE: "A" * 45})
    for response in (browser.get(app, "/me"), browser.post(app, "/login", name=USER, password=PASSWORD)):
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert browser.cookies, "nobody was logged out"


@pytest.mark.parametrize("module", [plain_flask, flask_login_app])
def test_what_uses_no_session_costs_nothing(module, redis):
    app = module.create_app(redis_client(redis.port), USERS)
    app.add_url_rule("/static-page", "static_page", lambda: "static")
    browser = logged_in(app)
    with redis.watch() as seen:
        response = browser.get(app, "/static-page")
    assert (response.status_code, seen.sent) == (200, [])
    assert "Cache-Control" not in response.headers


# The plain one


def test_more_rights_come_under_a_new_id(redis):
    app = plain_flask.create_app(redis_client(redis.port), USERS)
    browser = logged_in(app)
    stolen = browser.fork()
    assert browser.post(app, "/admin", password="wrong").status_code == 401
    assert browser.post(app, "/admin", password=PASSWORD).json == {"user": USER, "is_admin": True}
    assert browser.get(app, "/me").json == {"user": USER, "is_admin": True}
    assert stolen.get(app, "/me").json == {"user": None, "is_admin": False}


def test_one_other_session_can_be_ended(redis):
    app = plain_flask.create_app(redis_client(redis.port), USERS)
    first, second, third = (logged_in(app) for _ in range(3))
    handle = second.get(app, "/sessions").json[1]["handle"]
    assert len(first.post(app, "/sessions/end", handle=handle).json) == 2
    assert [who(each, app) for each in (first, second, third)] == [USER, None, USER]


# Flask-Login


def stock_app(**changes):
    """Flask-Login as it comes, with Flask's signed cookies."""
    app = Flask("stock")
    app.config.update(SECRET_KEY="secret", **changes)
    flask_login_app.LoginManager(app).user_loader(flask_login_app.User)
    app.add_url_rule(
        "/login", methods=["POST"], view_func=lambda: str(login_user(flask_login_app.User(USER), remember=True))
    )
    return app


def test_a_remember_me_cookie_opens_nothing(login_nodes, redis):
    browser = Browser()
    browser.post(stock_app(), "/login")
    remembered = Browser({"remember_token": browser.cookies["remember_token"]})
    login_nodes[0].secret_key = "secret"
    assert who(remembered, login_nodes[0]) is None
    assert redis.session_keys() == []


@pytest.fixture
def as_it_comes(monkeypatch, redis):
    """The example, without what it changes of Flask-Login."""
    monkeypatch.setattr(flask_login_app, "Logins", flask_login_app.LoginManager)
    app = flask_login_app.create_app(redis_client(redis.port), USERS)
    app.secret_key = "secret"
    app.add_url_rule("/static-page", "static_page", lambda: "static")
    app.add_url_rule("/remember", view_func=lambda: str(login_user(flask_login_app.User(USER), remember=True)))
    return app


def test_control_a_remember_me_cookie_undoes_the_end_of_a_session(as_it_comes):
    browser = Browser()
    browser.get(as_it_comes, "/remember")
    as_it_comes.session_interface.store.end_sessions(USER)
    assert who(browser, as_it_comes) == USER


def test_control_flask_login_as_it_comes_reads_after_each_request(as_it_comes):
    browser = logged_in(as_it_comes)
    assert browser.get(as_it_comes, "/static-page").headers["Cache-Control"] == "no-store"
    app = flask_login_app.create_app(redis_client(free_port()), USERS)
    assert browser.get(app, "/me").status_code == 500


def test_control_strong_protection_leaves_the_session_in_the_list(login_nodes):
    login_nodes[0].config["SESSION_PROTECTION"] = "strong"
    browser = logged_in(login_nodes[0])
    browser.agent = "another"
    assert who(browser, login_nodes[0]) is None
    assert len(login_nodes[0].session_interface.store.sessions_of(USER)) == 1


def test_a_login_that_asks_to_be_remembered_gets_no_such_cookie(login_nodes):
    app = login_nodes[0]
    app.secret_key = "secret"
    app.add_url_rule("/remember", view_func=lambda: str(login_user(flask_login_app.User(USER), remember=True)))
    browser = Browser()
    assert browser.get(app, "/remember").text == "True"
    assert browser.cookies.keys() == {COOKIE}


def test_another_browser_is_asked_for_the_password_before_it_ends_others(login_nodes):
    browser, other = logged_in(login_nodes[0]), logged_in(login_nodes[0])
    browser.agent = "another"
    assert who(browser, login_nodes[1]) == USER
    assert browser.post(login_nodes[1], "/sessions/end").status_code == 401
    assert who(other, login_nodes[0]) == USER
    stolen = browser.fork()
    assert browser.post(login_nodes[1], "/confirm", password=PASSWORD).status_code == 200
    assert browser.post(login_nodes[1], "/sessions/end").json == {"ended": 1}
    assert [who(each, login_nodes[0]) for each in (browser, stolen, other)] == [USER, None, None]


def test_a_user_who_is_no_more_is_nobody(login_nodes, redis):
    browser = logged_in(login_nodes[0])
    without = flask_login_app.create_app(redis_client(redis.port), {"bob": HASH})
    assert who(browser, without) is None


# The pages


PAGES = {
    "README.md": "plain_flask.py",
    "docs/how-to/sessions-in-your-app.md": "plain_flask.py",
    "docs/how-to/flask-login.md": "flask_login_app.py",
    "docs/how-to/move-from-flask-session.md": "from_flask_session.py",
}


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_stands_in_an_example(page):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    examples = [re.sub(r"\n\n+", "\n", path.read_text()) for path in ROOT.glob("examples/*.py")]
    for block in (re.sub(r"\n\n+", "\n", each) for each in blocks):
        shapes = [indent(block, " " * width) for width in (0, 4, 8)]
        assert any(shape in example for shape in shapes for example in examples), block


def test_every_example_is_named_by_a_page():
    named = {f"examples/{name}" for page, name in PAGES.items() if f"examples/{name}" in (ROOT / page).read_text()}
    assert named == {f"examples/{path.name}" for path in ROOT.glob("examples/*.py")}
