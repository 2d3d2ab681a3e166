"""Access control: session ids are random, appear only in their cookie, and nothing else gives access."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import flask
import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from flask_shared_session import Session
from flask_shared_session.ids import make_id
from lib.browser import Browser
from lib.demo_app import PASSWORD, USER, log_in, make_app, session_cookie, store_of, token
from lib.redis_server import RedisServer, free_port
from redis import Redis
from redis.exceptions import ConnectionError
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

ROOT = Path(__file__).resolve().parents[2]
SECURE = {"APP_COOKIE_SECURE": "true"}
COOKIE = "__Host-session"


def secrets_of(session_id: str) -> tuple[str, str]:
    """An id, and its secret part."""
    return session_id, session_id[2:]


def responses_of_all_kinds(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestResponse]:
    """Responses to all kinds of requests: valid, invalid, and with errors in the app."""
    form = {"csrf": token(client), "password": PASSWORD, "note": "x"}
    yield client.get("/")
    yield client.get("/sessions")
    for path in ("session", "sessions"):
        yield client.get(f"/api/{path}")
    yield client.post("/api/counter", json={})
    yield client.put("/api/note", json={"note": "x"})
    yield client.put("/api/note", json={"note": "x" * 5000})
    yield client.put("/api/note", data=b"{", content_type="application/json")
    yield client.put("/api/note", data=b"{")
    for path in ("/counter", "/note"):
        yield client.post(path, data=form)
        yield client.post(path, data={"csrf": "wrong"})
    yield client.get("/nothing", headers={"Accept": "text/html"})
    yield client.get("/login")
    yield client.get("/broken")
    yield client.get("/forbidden")
    with monkeypatch.context() as patch:
        patch.setattr(store_of(app), "_client", None)
        patch.setattr(store_of(app), "_read", _broken_script)
        yield client.get("/api/session")
        yield client.get("/")
    yield client.post("/sessions", data=form | {"end": "others"})
    yield client.delete("/api/sessions", json={"password": PASSWORD})
    yield client.delete("/api/sessions", json={"password": "wrong"})
    yield log_in(client)
    yield log_in(client, "bob")
    yield client.post("/api/logout", json={})
    yield client.get("/api/session")


def _broken_script(keys: object, args: object) -> None:
    raise ConnectionError(f"with keys {keys} and arguments {args}")


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_an_id_appears_only_in_its_cookie(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, accept: str
) -> None:
    app = make_app(redis.port, **SECURE)
    app.add_url_rule("/broken", "broken", lambda: str(1 / len(session["nothing"])))
    app.add_url_rule(
        "/forbidden",
        "forbidden",
        lambda: flask.abort(403, f"not for {cast(Any, session)._get_current_object()!r} {dict(session)}"),
    )
    client = app.test_client()
    client.environ_base["HTTP_ACCEPT"] = accept
    ids = set()
    with caplog.at_level(logging.DEBUG), redis.admin.monitor() as monitor:
        log_in(client)
        ids.add(session_cookie(client, COOKIE))
        seen = []
        for response in responses_of_all_kinds(app, client, monkeypatch):
            ids.add(session_cookie(client, COOKIE))
            headers = [line for line in response.headers if line[0] != "Set-Cookie"]
            seen.append(f"{response.request.url} {headers} {response.text}")
        redis.admin.echo("end")
        for command in iter(monitor.next_command, None):
            seen.append(command["command"])
            if command["command"].startswith("ECHO"):
                break
    ids -= {None}
    assert len(ids) >= 5
    assert len(caplog.records) >= 3, "control: errors were logged"
    text = "\n".join([*seen, caplog.text])
    assert [each for session_id in filter(None, ids) for each in secrets_of(session_id) if each in text] == []


def test_responses_after_a_login_are_never_cached(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(redis.port)
    app.add_url_rule("/broken", "broken", lambda: str(1 / len(session["nothing"])))
    app.add_url_rule("/forbidden", "forbidden", lambda: flask.abort(403, str(session)))
    client = app.test_client()
    log_in(client)
    for response in responses_of_all_kinds(app, client, monkeypatch):
        assert response.headers["Cache-Control"] == "no-store", response.request.path


def test_an_id_outside_the_cookie_gives_no_access(redis: RedisServer) -> None:
    app = make_app(redis.port)
    client = app.test_client()
    log_in(client)
    session_id = session_cookie(client)
    other = app.test_client(use_cookies=False)
    bearer = {"Authorization": f"Bearer {session_id}", "X-Session": session_id, "X-Session-ID": session_id}
    assert other.get("/api/session", headers=bearer).status_code == 401
    assert other.get(f"/api/session?session={session_id}").status_code == 401
    assert other.get(f"/api/session;session={session_id}").status_code == 404
    assert other.post("/api/counter", json={"session": session_id}).status_code == 401
    assert other.get("/api/session", headers={"Cookie": f"session={session_id}"}).status_code == 200, "control"


def test_a_host_cookie_is_deleted_with_the_attributes_that_browsers_require(redis: RedisServer) -> None:
    app = make_app(redis.port, **SECURE)
    browser = Browser()
    browser.request(app, "POST", "/api/login", json={"username": USER, "password": PASSWORD})
    assert browser.cookies.keys() == {COOKIE, "__Host-device"}
    response = browser.request(app, "POST", "/api/logout", json={})
    assert browser.cookies.keys() == {"__Host-device"}
    (line,) = response.headers.getlist("Set-Cookie")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax", "Max-Age=0"} <= set(line.split("; "))


def test_a_login_replaces_a_planted_id(redis: RedisServer) -> None:
    app = make_app(redis.port)
    planted = make_id()
    victim, attacker = app.test_client(), app.test_client()
    for client in (victim, attacker):
        client.set_cookie("session", planted)
    log_in(victim)
    assert session_cookie(victim) != planted
    assert victim.get("/api/session").status_code == 200
    assert attacker.get("/api/session").status_code == 401


@pytest.mark.parametrize("interface", ["page", "api"])
def test_confirming_the_password_gives_the_session_a_new_id(redis: RedisServer, interface: str) -> None:
    app = make_app(redis.port)
    client, thief = app.test_client(), app.test_client()
    log_in(client)
    thief.set_cookie("session", session_cookie(client) or "")
    assert thief.get("/api/session").status_code == 200
    if interface == "page":
        form = {"csrf": token(client), "password": PASSWORD, "end": "others"}
        assert client.post("/sessions", data=form).status_code == 303
    else:
        assert client.delete("/api/sessions", json={"password": PASSWORD}).status_code == 200
    assert client.get("/api/session").status_code == 200
    assert thief.get("/api/session").status_code == 401


def test_a_wrong_password_keeps_the_id(redis: RedisServer) -> None:
    client = make_app(redis.port).test_client()
    log_in(client)
    before = session_cookie(client)
    assert client.delete("/api/sessions", json={"password": "wrong"}).status_code == 403
    assert session_cookie(client) == before


PLANTED = {
    "string": lambda admin, key: admin.set(key, "x"),
    "list": lambda admin, key: admin.rpush(key, "x"),
    "set": lambda admin, key: admin.sadd(key, "x"),
    "sorted set": lambda admin, key: admin.zadd(key, {"x": 1}),
    "stream": lambda admin, key: admin.xadd(key, {"x": "y"}),
    "foreign hash": lambda admin, key: admin.hset(key, "user", "eve"),
}
FIRST = {
    "page": lambda client: client.get("/"),
    "api": lambda client: client.get("/api/session"),
    "login": log_in,
    "logout": lambda client: client.post("/api/logout", json={}),
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
def test_a_foreign_value_in_place_of_a_session_allows_a_new_login(
    redis: RedisServer, plant: Callable[[Redis, str], object], first: Callable[[FlaskClient], TestResponse]
) -> None:
    client = make_app(redis.port).test_client()
    log_in(client)
    (key,) = redis.session_keys()
    redis.admin.delete(key)
    plant(redis.admin, key)
    redis.admin.expire(key, 100)
    assert first(client).status_code in (200, 401)
    assert not redis.admin.exists(key)
    assert log_in(client).status_code == 200
    assert client.get("/api/session").get_json()["user"] == USER


def value_of(admin: Any, key: str) -> Any:
    readers = {"string": admin.get, "list": lambda key: admin.lrange(key, 0, -1), "set": admin.smembers}
    readers |= {"zset": lambda key: admin.zrange(key, 0, -1), "stream": admin.xrange, "hash": admin.hgetall}
    return readers[admin.type(key)](key)


@pytest.mark.parametrize("change", [lambda s: s.update(a=2), lambda s: s.rotate(), lambda s: s.increment("a")])
@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
def test_a_foreign_value_set_between_read_and_write_is_never_changed(
    redis: RedisServer, plant: Callable[[Redis, str], object], change: Callable[[Session], object]
) -> None:
    store = store_of(make_app(redis.port))
    created = Session(store, None)
    created["a"] = 1
    created.log_in(USER)
    created.save()
    found = Session(store, created.new_id)
    assert found["a"] == 1
    (key,) = redis.session_keys()
    redis.admin.delete(key)
    plant(redis.admin, key)
    redis.admin.expire(key, 100)
    before = value_of(redis.admin, key)
    with pytest.raises((HTTPException, ValueError)):
        change(found)
        found.save()
    assert value_of(redis.admin, key) == before


def test_an_unavailable_redis_gives_no_access() -> None:
    client = make_app(free_port()).test_client()
    client.set_cookie("session", make_id())
    for response in (client.get("/api/session"), log_in(client), client.get("/sessions")):
        assert response.status_code == 503
        assert USER not in response.text


@pytest.mark.parametrize("path", ["/", "/sessions"])
def test_every_page_that_requires_a_login_has_a_logout_form(redis: RedisServer, path: str) -> None:
    client = make_app(redis.port).test_client()
    log_in(client)
    page = client.get(path).text
    assert 'action="/logout"' in page
    assert client.post("/logout", data={"csrf": token(client, path)}).status_code == 303
    assert client.get("/api/session").status_code == 401
