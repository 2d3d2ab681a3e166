"""Migration from Flask-Session: releases 0 to 3 of examples/from_flask_session.py side by side with the same Redis."""

import logging
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import flask_session
import from_flask_session
import msgspec
import pytest
from flask import Flask, session
from flask_shared_session import RedisStore, SessionStoreError
from flask_shared_session.flask_session import Adopt, BothInterface
from flask_shared_session.redis_client import make_client
from lib.ansible_runs import SOURCES
from lib.browser import Browser
from lib.demo_app import HASH, PASSWORD, USER, admin_client, store_of
from lib.redis_server import REDIS_PASSWORD, RedisServer, free_port
from redis import Redis

NEW = "__Host-session"
USERS = {USER: HASH, "bob": HASH}


def make_nodes(port: int) -> list[Flask]:
    return [from_flask_session.create_app(admin_client(port), USERS, release) for release in range(4)]


@pytest.fixture
def nodes(redis: RedisServer) -> list[Flask]:
    """A node of each release."""
    return make_nodes(redis.port)


def logged_in(app: Flask, browser: Browser | None = None, name: str = USER) -> Browser:
    browser = browser or Browser()
    assert browser.post(app, "/login", name=name, password=PASSWORD).get_json()["user"] == name
    return browser


def user_of(browser: Browser, app: Flask) -> str | None:
    user: str | None = browser.get(app, "/me").get_json()["user"]
    return user


def old_key(browser: Browser) -> str:
    return "session:" + browser.cookies["session"]


def set_adopt(app: Flask, adopt: Adopt) -> None:
    assert isinstance(app.session_interface, BothInterface)
    app.session_interface._adopt = adopt


def concurrently(*calls: Callable[[], Any]) -> list[Any]:
    results = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(number: int, call: Callable[[], Any]) -> None:
        barrier.wait()
        results[number] = call()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_an_old_session_is_moved_with_its_values_under_a_new_id(nodes: list[Flask], redis: RedisServer) -> None:
    browser = logged_in(nodes[0])
    browser.post(nodes[0], "/cart", item="ä tea")
    old, before = old_key(browser), browser.fork()
    response = browser.get(nodes[2], "/me")
    assert response.json == {"user": USER, "cart": ["ä tea"]}
    assert browser.cookies.keys() == {NEW}
    assert any(f"Max-Age={31 * 86400}" in line for line in response.headers.getlist("Set-Cookie")), (
        "same lifetime as before"
    )
    assert before.cookies["session"] not in browser.cookies[NEW]
    kept = Redis(port=redis.port, username="admin", password=REDIS_PASSWORD).get(old)
    assert isinstance(kept, bytes) and USER.encode() not in kept
    assert 0 < redis.admin.pttl(old) <= 60_000
    (found,) = store_of(nodes[2]).sessions_of(USER)
    assert found.address == "127.0.0.1"
    # ended, even for clients with the old cookie
    store_of(nodes[2]).end_session(found.handle)
    assert [user_of(each, app) for each in (browser, before) for app in nodes[1:]] == [None] * 6


def test_the_old_key_expires_in_a_minute_even_without_a_response(nodes: list[Flask], redis: RedisServer) -> None:
    browser = logged_in(nodes[0])
    with nodes[2].test_request_context(headers={"Cookie": f"session={browser.cookies['session']}"}):
        assert session["user"] == USER
    assert 0 < redis.admin.pttl(old_key(browser)) <= 60_000


def test_a_session_without_a_user_is_moved(nodes: list[Flask]) -> None:
    browser = Browser()
    browser.post(nodes[0], "/cart", item="tea")
    assert browser.get(nodes[2], "/me").json == {"user": None, "cart": ["tea"]}
    assert browser.get(nodes[3], "/me").json == {"user": None, "cart": ["tea"]}


@pytest.mark.parametrize("attempt", range(40))
def test_six_concurrent_requests_find_the_same_new_session(
    nodes: list[Flask], redis: RedisServer, attempt: int
) -> None:
    """A page that was open during the switch: all requests keep the login, and no write is lost."""
    browser = logged_in(nodes[0])
    pair, adopted = [nodes[2], make_nodes(redis.port)[2]], []

    def adopt(old: dict[str, Any]) -> tuple[str | None, dict[str, Any]] | None:
        adopted.append(old)
        threading.Event().wait(0.01 * (attempt % 3))  # time for the other requests to arrive
        return from_flask_session.adopt(old)

    for app in pair:
        set_adopt(app, adopt)
    wave = [browser.fork() for _ in range(6)]
    look = [lambda each=each, app=app: each.get(app, "/me") for each, app in zip(wave[1:], pair * 3, strict=False)]
    responses = concurrently(lambda: wave[0].post(pair[1], "/cart", item="x"), *look)
    assert [each.json["user"] for each in responses] == [USER] * 6
    assert len(adopted) == 1
    assert len({each.cookies[NEW] for each in wave}) == 1
    assert len(store_of(nodes[2]).sessions_of(USER)) == 1
    assert wave[5].get(nodes[2], "/me").json == {"user": USER, "cart": ["x"]}
    assert user_of(browser, nodes[2]) == USER, "also with a late request"


def test_six_concurrent_requests_on_old_and_new_nodes(nodes: list[Flask]) -> None:
    for _ in range(20):
        browser = logged_in(nodes[0])
        waves = [browser.fork() for _ in range(6)]
        calls = [lambda each=each, app=app: user_of(each, app) for each, app in zip(waves, nodes[1:3] * 3, strict=True)]
        assert concurrently(*calls) == [USER] * 6
        for each in waves:
            assert [user_of(each, app) for app in nodes[1:3]] == [USER] * 2


def test_a_write_back_by_an_old_node_during_a_request_causes_no_logout(nodes: list[Flask], redis: RedisServer) -> None:
    browser = logged_in(nodes[0])
    key, late = old_key(browser), browser.fork()
    values = redis.admin.dump(key)
    assert user_of(browser, nodes[2]) == USER
    with nodes[1].test_request_context(headers={"Cookie": f"session={late.cookies['session']}"}):
        redis.admin.restore(key, 60_000, values, replace=True)
        assert session["user"] == USER


@pytest.mark.parametrize("pair", [(0, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("seed", range(5))
def test_users_between_neighboring_releases_are_never_logged_out_or_in(
    nodes: list[Flask], pair: tuple[int, int], seed: int
) -> None:
    """A rolling update and its rollback: each request may reach either release; 3 knows the sessions moved by 2."""
    chance = random.Random(seed)
    browser, user = Browser(), None
    cart: list[str] = []
    gone: list[Browser] = []
    if 3 in pair:  # release 3 requires that release 2 has moved the session before
        user_of(logged_in(nodes[2], browser), nodes[2])
        user = USER
    for step in range(60):
        app = nodes[chance.choice(pair)]
        seen = browser.get(app, "/me").get_json()
        assert (seen["user"], seen["cart"]) == (user, cart), step
        action = chance.choice(["cart", "cart", "look", "login", "logout"])
        app = nodes[chance.choice(pair)]
        if action == "cart":
            cart = browser.post(app, "/cart", item=str(step)).get_json()["cart"]
        elif action == "login" and user is None:
            user, cart = chance.choice(list(USERS)), []
            logged_in(app, browser, user)
        elif action == "logout":
            gone.append(browser.fork())
            browser.post(app, "/logout")
            user, cart = None, []
    assert {user_of(each, nodes[number]) for each in gone for number in pair} <= {None}


def test_a_rollback_to_release_1_logs_no_user_out(nodes: list[Flask]) -> None:
    old, new = logged_in(nodes[0]), logged_in(nodes[2])
    assert user_of(old, nodes[2]) == USER
    for browser in (old, new):
        assert user_of(browser, nodes[1]) == USER
        browser.post(nodes[1], "/cart", item="x")
        assert browser.get(nodes[2], "/me").json == {"user": USER, "cart": ["x"]}
    late = logged_in(nodes[1])
    assert late.cookies.keys() == {"session"}, "release 1 creates sessions of Flask-Session"
    assert user_of(late, nodes[2]) == USER


def test_control_without_release_1_a_moved_session_is_unknown_to_old_nodes(nodes: list[Flask]) -> None:
    browser = logged_in(nodes[0])
    assert user_of(browser, nodes[2]) == USER
    assert user_of(browser, nodes[0]) is None


def test_an_old_session_written_back_by_an_old_node_changes_nothing(nodes: list[Flask], redis: RedisServer) -> None:
    """In each request, Flask-Session saves the values that it read and sets its cookie, even after the move."""
    browser = logged_in(nodes[0])
    browser.post(nodes[0], "/cart", item="tea")
    slow, key = browser.fork(), old_key(browser)
    written = Redis(port=redis.port, username="admin", password=REDIS_PASSWORD).get(key)
    browser.post(nodes[2], "/cart", item="x")
    redis.admin.set(key, written, ex=1000)
    browser.cookies["session"] = slow.cookies["session"]
    assert slow.get(nodes[2], "/me").get_json()["cart"] == ["tea", "x"], "not moved a second time over later writes"
    redis.admin.set(key, written, ex=1000)
    assert browser.get(nodes[2], "/me").get_json()["cart"] == ["tea", "x"]
    assert browser.cookies.keys() == {NEW}
    assert redis.admin.pttl(key) <= 60_000


@pytest.mark.parametrize("release", [1, 2])
def test_a_logout_as_the_first_request_after_the_switch(nodes: list[Flask], release: int) -> None:
    browser = logged_in(nodes[0])
    before = browser.fork()
    nodes[release].add_url_rule("/out", view_func=lambda: _end())
    browser.get(nodes[release], "/out")
    assert browser.cookies == {}
    assert [user_of(before, app) for app in nodes] == [None] * 4


def _end() -> str:
    getattr(session, "end", session.clear)()
    return "ended"


def test_requests_and_pages_without_a_session_need_no_command(nodes: list[Flask], redis: RedisServer) -> None:
    nodes[2].add_url_rule("/static-page", view_func=lambda: "static")
    browser = logged_in(nodes[0])
    with redis.monitor() as seen:
        browser.get(nodes[2], "/static-page")
        user_of(Browser(), nodes[2])
        user_of(Browser({"session": "../" * 20}), nodes[2])
        user_of(Browser({"session": "A" * 3900}), nodes[2])
    assert seen.sent == []
    assert browser.cookies.keys() == {"session"}
    user_of(browser, nodes[2])
    with redis.monitor() as seen:
        user_of(browser, nodes[2])
    assert seen.sent == ["EVALSHA"], "after the move: a single command"


class _Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (pytest.fail, ("a pickle was executed",))


JUNK = [
    pickle.dumps({"user": USER}),
    pickle.dumps(_Bomb()),
    pickle.dumps(_Bomb(), protocol=0),
    b"",
    b"\x82\xa4user",
    b'{"user": "ad',
    b'["user"]',
    b"\xc1",
    b"\x91" * 100_000,
    b"[" * 100_000,
]


@pytest.mark.parametrize("junk", JUNK)
def test_values_that_are_neither_msgpack_nor_json_are_dropped_and_never_unpickled(
    nodes: list[Flask], redis: RedisServer, junk: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    browser = logged_in(nodes[0])
    key = old_key(browser)
    redis.admin.set(key, junk, ex=1000)
    with caplog.at_level(logging.DEBUG):
        assert user_of(browser, nodes[2]) is None
    assert not redis.admin.exists(key)
    assert "dropped an unreadable Flask-Session" in caplog.text
    assert key.removeprefix("session:") not in caplog.text
    logged_in(nodes[2], browser)
    assert user_of(browser, nodes[2]) == USER


def test_a_foreign_type_in_place_of_an_old_session_is_dropped(nodes: list[Flask], redis: RedisServer) -> None:
    browser = logged_in(nodes[0])
    key = old_key(browser)
    redis.admin.delete(key)
    redis.admin.rpush(key, "x")
    redis.admin.expire(key, 1000)
    assert user_of(browser, nodes[2]) is None
    assert not redis.admin.exists(key)


@pytest.mark.parametrize("slot", ["", "A", "A" * 3, "}x", "éé", 5, None])
def test_a_planted_pointer_gives_no_access(nodes: list[Flask], redis: RedisServer, slot: Any) -> None:
    browser = logged_in(nodes[0])
    redis.admin.set(old_key(browser), msgspec.json.encode({"_moved_to": slot}), ex=1000)
    assert user_of(browser, nodes[2]) is None


@pytest.mark.parametrize("options", [{"SESSION_USE_SIGNER": True}, {"SESSION_SERIALIZATION_FORMAT": "json"}], ids=str)
@pytest.mark.filterwarnings("ignore:The 'use_signer' option is deprecated")
def test_signed_cookies_and_json_are_read(
    redis: RedisServer, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Flask.config_class.update
    monkeypatch.setattr(Flask.config_class, "update", lambda self, **more: update(self, **more | options))
    nodes = make_nodes(redis.port)
    browser = logged_in(nodes[0])
    forged = Browser({"session": browser.cookies["session"][:43] + ".forged"})
    if "SESSION_USE_SIGNER" in options:
        assert user_of(forged, nodes[2]) is None
    assert [user_of(browser, app) for app in nodes[1:]] == [USER] * 3


def test_the_app_may_drop_an_old_session(nodes: list[Flask], redis: RedisServer) -> None:
    set_adopt(nodes[2], lambda old: None)
    browser = logged_in(nodes[0])
    key = old_key(browser)
    assert user_of(browser, nodes[2]) is None
    assert not redis.admin.exists(key)
    assert browser.cookies == {}


def test_an_unsupported_value_is_named_and_the_old_session_is_kept(
    nodes: list[Flask], redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    set_adopt(nodes[2], lambda old: (USER, old | {"seen": b"x"}))
    browser = logged_in(nodes[0])
    assert browser.get(nodes[2], "/me").status_code == 500
    assert "session['seen'] holds a bytes" in caplog.text
    set_adopt(nodes[2], from_flask_session.adopt)
    assert user_of(browser, nodes[2]) == USER, "fixed, and still logged in"


def test_a_move_that_fails_in_redis_is_503_and_retried(nodes: list[Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    browser = logged_in(nodes[0])
    store = store_of(nodes[2])
    with monkeypatch.context() as patch:
        patch.setattr(store, "create", _fail)
        assert browser.get(nodes[2], "/me").status_code == 503
    assert browser.cookies.keys() == {"session"}
    assert user_of(browser, nodes[2]) == USER


def _fail(*arguments: Any) -> None:
    raise SessionStoreError


def test_an_unavailable_redis_is_503_and_no_logout(redis: RedisServer) -> None:
    away = from_flask_session.create_app(admin_client(free_port()), USERS, 2)
    browser = logged_in(make_nodes(redis.port)[0])
    response = browser.get(away, "/me")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert browser.cookies.keys() == {"session"}


def test_waiting_for_the_move_of_a_dead_request_is_503(nodes: list[Flask], redis: RedisServer) -> None:
    browser = logged_in(nodes[0])
    redis.admin.set(old_key(browser) + ":claim", "", px=10_000)
    assert browser.get(nodes[2], "/me").status_code == 503
    redis.admin.delete(old_key(browser) + ":claim")
    assert user_of(browser, nodes[2]) == USER


def test_a_logout_on_an_old_node_during_the_move_wins(nodes: list[Flask], redis: RedisServer) -> None:
    browser = logged_in(nodes[0])
    before, key = browser.fork(), old_key(browser)
    set_adopt(nodes[2], lambda old: redis.admin.delete(key) and (USER, old))
    assert user_of(browser, nodes[2]) is None
    assert [user_of(each, app) for each in (browser, before) for app in nodes] == [None] * 8
    assert redis.session_keys() == []


def test_the_id_of_a_moved_session_depends_on_the_secret_key(nodes: list[Flask], redis: RedisServer) -> None:
    browser, other = logged_in(nodes[0]), make_nodes(redis.port)[2]
    late = browser.fork()
    user_of(browser, nodes[2])
    other.secret_key = "another"
    assert user_of(late, other) is None


def test_an_app_without_a_secret_key_is_an_error(nodes: list[Flask], caplog: pytest.LogCaptureFixture) -> None:
    browser = logged_in(nodes[0])
    nodes[2].secret_key = None
    assert browser.get(nodes[2], "/me").status_code == 500
    assert "needs the same SECRET_KEY" in caplog.text


def test_flask_session_may_use_another_redis_with_few_permissions(redis: RedisServer, own_redis: RedisServer) -> None:
    rules = {
        "passwords": [f"+{REDIS_PASSWORD}"],
        "keys": ["session:*"],
        "commands": ["+get", "+set", "+del", "+pexpire"],
    }
    own_redis.admin.acl_setuser("old", enabled=True, **rules)
    apart = make_client(host="127.0.0.1", port=own_redis.port, username="old", password=REDIS_PASSWORD)
    nodes = make_nodes(redis.port)[:3]
    for app in nodes:
        old: Any = getattr(app.session_interface, "_old", app.session_interface)
        old.client = apart
    browser = logged_in(nodes[0])
    assert redis.admin.dbsize() == 0
    assert [user_of(browser, nodes[number]) for number in (1, 2, 1)] == [USER] * 3
    set_adopt(nodes[2], lambda old: None)
    assert user_of(logged_in(nodes[0]), nodes[2]) is None
    assert own_redis.admin.execute_command("ACL", "LOG") == []


def test_a_login_of_flask_login_is_moved(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import flask_login_app

    def with_flask_session(app: Flask, store: RedisStore, adopt: Adopt | None = None) -> None:
        app.secret_key = "secret"
        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=admin_client(redis.port), SESSION_COOKIE_NAME="session")
        flask_session.Session(app)
        if adopt:
            app.session_interface = BothInterface(store, app.session_interface, cookie=NEW, adopt=adopt)

    connect = flask_login_app.use_sessions

    def moving(app: Flask, store: RedisStore) -> None:
        connect(app, store)
        with_flask_session(app, store, lambda old: (old.get("_user_id"), old))

    def build(how: Callable[[Flask, RedisStore], None]) -> Flask:
        monkeypatch.setattr(flask_login_app, "use_sessions", how)
        return flask_login_app.create_app(admin_client(redis.port), USERS)

    old, new = build(with_flask_session), build(moving)
    browser = Browser()
    assert browser.post(old, "/login", name=USER, password=PASSWORD).json == {"user": USER}
    assert browser.cookies.keys() == {"session"}
    other, elsewhere = browser.fork(), logged_in(new)
    assert user_of(browser, new) == USER
    assert browser.cookies.keys() == {NEW}
    assert browser.post(new, "/sessions/end").json == {"ended": 1}, "still fresh, and the user's"
    assert user_of(elsewhere, new) is None
    assert len(store_of(new).sessions_of(USER)) == 1
    browser.post(new, "/logout")
    assert [user_of(each, new) for each in (browser, other)] == [None, None]


def test_without_msgspec_the_import_error_names_it() -> None:
    code = "import sys; sys.modules['msgspec'] = None; import flask_shared_session.flask_session"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": SOURCES}, capture_output=True, text=True)
    assert done.stderr.strip().endswith("needs msgspec: pip install 'flask-shared-session[migrate]'")
