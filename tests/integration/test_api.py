"""The JSON API."""

import io
import json
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from lib.demo_app import HASH, PASSWORD, USER, log_in, make_app, session_cookie, store_of
from lib.redis_server import RedisServer

JSON = {"Content-Type": "application/json"}


def test_login_then_session(client: FlaskClient) -> None:
    response = log_in(client)
    assert response.status_code == 200
    body = response.get_json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body.pop("started_at"))
    assert body == {"user": USER, "node": "app1", "started_on": "app1", "counter": 0, "note": ""}
    again = client.get("/api/session")
    assert again.json == response.json
    assert again.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in again.headers


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), ("nobody", PASSWORD), ("", "")])
def test_a_failed_login_reveals_nothing_else(client: FlaskClient, redis: RedisServer, user: str, password: str) -> None:
    response = log_in(client, user, password)
    assert response.status_code == 401
    assert response.get_json()["error"] == "Wrong user name or password."
    assert "Set-Cookie" not in response.headers
    assert redis.session_keys() == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("get", "session", None),
        ("get", "sessions", None),
        ("post", "counter", {}),
        ("put", "note", {"note": "x"}),
        ("delete", "sessions", {"password": PASSWORD}),
    ],
)
def test_requests_without_a_login_are_401(
    client: FlaskClient, redis: RedisServer, method: str, path: str, body: Any
) -> None:
    with redis.monitor() as seen:
        response = getattr(client, method)(f"/api/{path}", json=body)
    assert response.status_code == 401
    assert set(response.json) == {"error", "request_id"}
    assert seen.sent == []


def test_the_counter_is_incremented(logged_in: FlaskClient) -> None:
    assert logged_in.post("/api/counter", json={}).json == {"counter": 1}
    assert logged_in.post("/api/counter", headers=JSON).json == {"counter": 2}
    assert logged_in.get("/api/session").get_json()["counter"] == 2


def test_the_note_is_stored(logged_in: FlaskClient) -> None:
    note = "ä\r\n<b>\U0001f600" * 500
    assert logged_in.put("/api/note", json={"note": note}).status_code == 200
    assert logged_in.get("/api/session").get_json()["note"] == note


@pytest.mark.parametrize("size", [4097, 1024 * 1024])
def test_a_note_that_is_too_long_is_413_and_changes_nothing(logged_in: FlaskClient, size: int) -> None:
    logged_in.put("/api/note", json={"note": "before"})
    response = logged_in.put("/api/note", json={"note": "x" * size})
    assert response.status_code == 413
    assert response.get_json()["error"]
    assert logged_in.get("/api/session").get_json()["note"] == "before"


def test_a_chunked_body_is_limited(logged_in: FlaskClient) -> None:
    for size, status in [(10, 200), (70_000, 413)]:
        body = io.BytesIO(json.dumps({"note": "x" * 10}).encode() + b" " * size)
        environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
        response = logged_in.put(
            "/api/note", input_stream=body, content_type="application/json", environ_overrides=environ
        )
        assert response.status_code == status


@pytest.mark.parametrize("note", [None, 1, ["x"], "\ud800"])
def test_a_note_that_is_not_a_string_is_400(logged_in: FlaskClient, note: Any) -> None:
    assert logged_in.put("/api/note", json={"note": note}).status_code == 400
    assert logged_in.put("/api/note", json={}).status_code == 400


@pytest.mark.parametrize("data", [b"{", b"[]", b"1", b"null", b"\xff", b"[" * 60_000])
def test_a_body_that_is_not_a_json_object_is_400(logged_in: FlaskClient, data: bytes) -> None:
    for method, path in [("post", "login"), ("post", "counter"), ("put", "note"), ("post", "logout")]:
        response = getattr(logged_in, method)(f"/api/{path}", data=data, headers=JSON)
        assert response.status_code == 400, path
    assert logged_in.get("/api/session").status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data"}])
def test_another_content_type_is_415(logged_in: FlaskClient, headers: dict[str, str]) -> None:
    for path in ("login", "counter", "logout"):
        assert logged_in.post(f"/api/{path}", data=b"{}", headers=headers).status_code == 415
    assert logged_in.put("/api/note", data=b"{}", headers=headers).status_code == 415


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
)
def test_requests_from_another_origin_are_refused(logged_in: FlaskClient, headers: dict[str, str], status: int) -> None:
    for path in ("/api/counter", "/api/logout"):
        assert logged_in.post(path, json={}, headers=headers).status_code == status


def test_logout_ends_the_session_everywhere(logged_in: FlaskClient, redis: RedisServer) -> None:
    old = session_cookie(logged_in)
    assert old
    response = logged_in.post("/api/logout", json={})
    assert (response.status_code, response.json) == (200, {"ok": True})
    assert session_cookie(logged_in) is None
    assert redis.session_keys() == []
    logged_in.set_cookie("session", old)
    assert logged_in.get("/api/session").status_code == 401


def test_logout_without_a_login_is_200(client: FlaskClient) -> None:
    assert client.post("/api/logout", json={}).json == {"ok": True}


def test_sessions_are_listed_and_others_ended_with_the_password(app: Flask, logged_in: FlaskClient) -> None:
    other = app.test_client()
    log_in(other)
    first, second = logged_in.get("/api/sessions").get_json()["sessions"]
    assert first.keys() == {"handle", "current", "started_on", "started_at", "seen_at", "address", "agent"}
    assert {first["current"], second["current"]} == {True, False}
    for body, status in (({}, 400), ({"password": "wrong"}, 403)):
        assert logged_in.delete("/api/sessions", json=body).status_code == status
    assert other.get("/api/session").status_code == 200
    assert logged_in.delete("/api/sessions", json={"password": PASSWORD}).json == {"ended": 1}
    assert other.get("/api/session").status_code == 401
    assert logged_in.get("/api/session").status_code == 200


def test_a_new_login_invalidates_the_old_id(logged_in: FlaskClient, redis: RedisServer) -> None:
    old = session_cookie(logged_in)
    assert old
    logged_in.post("/api/counter", json={})
    assert log_in(logged_in, "bob").get_json()["counter"] == 0
    assert session_cookie(logged_in) != old
    assert len(redis.session_keys()) == 1
    logged_in.set_cookie("session", old)
    assert logged_in.get("/api/session").status_code == 401


def test_a_removed_user_is_logged_out_everywhere_at_the_next_request(app: Flask, redis: RedisServer) -> None:
    first, second = app.test_client(), app.test_client()
    for client in (first, second):
        log_in(client)
    other = make_app(redis.port, APP_USERS=json.dumps({"bob": HASH})).test_client()
    cookie = session_cookie(first)
    assert cookie
    other.set_cookie("session", cookie)
    assert other.get("/api/session").status_code == 401
    assert redis.session_keys() == []
    assert second.get("/api/session").status_code == 401


def test_user_address_agent_and_node_are_stored_with_the_session(app: Flask) -> None:
    client = app.test_client()
    address, agent = {"REMOTE_ADDR": "203.0.113.9"}, {"User-Agent": "Browser/1 " + "x" * 5000}
    client.post("/api/login", json={"username": USER, "password": PASSWORD}, environ_base=address, headers=agent)
    (found,) = store_of(app).sessions_of(USER)
    assert (found.address, found.agent, found.node) == ("203.0.113.9", agent["User-Agent"][:256], "app1")


def test_the_limit_of_sessions_per_user_is_a_setting(redis: RedisServer) -> None:
    app = make_app(redis.port, APP_SESSIONS_PER_USER="2")
    clients = [app.test_client() for _ in range(3)]
    for client in clients:
        log_in(client)
    assert [each.get("/api/session").status_code for each in clients] == [401, 200, 200]


@pytest.mark.parametrize(("path", "status"), [("/api/nothing", 404), ("/api/login", 405), ("/api", 404)])
def test_errors_are_json(client: FlaskClient, path: str, status: int) -> None:
    response = client.get(path, headers={"Accept": "application/json"})
    assert response.status_code == status
    assert response.get_json()["request_id"] == response.headers["X-Request-ID"]
    assert ("Allow" in response.headers) == (status == 405)
