"""An app node: health, headers, trusted proxies, settings, and sessions shared with other nodes."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_shared_session import Session
from lib.demo_app import USER, log_in, make_app, session_cookie, store_of
from lib.redis_server import ACL_COMMANDS, PREFIX, RedisServer
from werkzeug.test import TestResponse


def test_healthz_never_queries_redis(logged_in: FlaskClient, redis: RedisServer) -> None:
    with redis.monitor() as seen:
        response = logged_in.get("/healthz")
    assert seen.sent == []
    assert response.json == {"status": "ok", "node": "app1", "release": "r1"}
    assert "Set-Cookie" not in response.headers


@pytest.mark.every_server
def test_readyz_queries_redis_once_and_stores_nothing(client: FlaskClient, redis: RedisServer) -> None:
    assert client.get("/readyz").status_code == 200
    before = redis.aof_bytes()
    with redis.monitor() as seen:
        assert client.get("/readyz").get_json()["status"] == "ok"
    assert (seen.sent, seen.inside) == (["EVALSHA"], [])
    assert (redis.aof_bytes(), redis.admin.dbsize()) == (before, 0)


@pytest.mark.parametrize("path", ["/", "/nothing", "/api/session", "/healthz", "/static/style.css"])
def test_every_response_names_node_release_and_deployment(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert (headers["X-Node"], headers["X-Release"], headers["X-Deployment"]) == ("app1", "r1", "none")
    assert len(headers["X-Request-ID"]) == 32


FORWARDED = {
    "X-Forwarded-For": "6.6.6.6, 203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "www.test",
    "X-Request-ID": "abc.DEF-123_4",
}


def _seen_by(app: Flask, address: str) -> TestResponse:
    from flask import request

    app.add_url_rule(
        "/seen",
        view_func=lambda: {
            "from": request.remote_addr,
            "url": request.host_url,
            "forwarded": request.headers.get("X-Forwarded-For"),
        },
    )
    return app.test_client().get("/seen", headers=FORWARDED, environ_base={"REMOTE_ADDR": address})


@pytest.mark.parametrize("address", ["10.0.0.5", "::ffff:10.0.0.5"])
def test_headers_of_a_trusted_proxy_are_used(redis: RedisServer, address: str) -> None:
    response = _seen_by(make_app(redis.port, APP_TRUSTED_PROXIES="10.0.0.4, 10.0.0.5"), address)
    assert response.get_json()["from"] == "203.0.113.9"
    assert response.get_json()["url"] == "https://www.test/"
    assert response.headers["X-Request-ID"] == "abc.DEF-123_4"


@pytest.mark.parametrize("address", ["10.0.0.6", "127.0.0.1", ""])
def test_headers_of_other_clients_are_ignored(redis: RedisServer, address: str) -> None:
    response = _seen_by(make_app(redis.port, APP_TRUSTED_PROXIES="10.0.0.5"), address)
    assert response.json == {"from": address, "url": "http://localhost/", "forwarded": None}
    assert response.headers["X-Request-ID"] != "abc.DEF-123_4"


@pytest.mark.parametrize("request_id", ["short", "x" * 65, "with space", "a<script>b"])
def test_an_invalid_request_id_is_replaced(redis: RedisServer, request_id: str) -> None:
    client = make_app(redis.port, APP_TRUSTED_PROXIES="127.0.0.1").test_client()
    assert client.get("/", headers={"X-Request-ID": request_id}).headers["X-Request-ID"] != request_id


def test_the_origin_is_compared_with_the_forwarded_host(redis: RedisServer) -> None:
    client = make_app(redis.port, APP_TRUSTED_PROXIES="127.0.0.1").test_client()
    headers = {"X-Forwarded-Host": "www.test", "X-Forwarded-Proto": "https", "Origin": "https://www.test"}
    assert client.post("/api/logout", json={}, headers=headers).status_code == 200
    assert client.post("/api/logout", json={}, headers=headers | {"Origin": "https://x.test"}).status_code == 403


def two_nodes(port: int, **changes: str) -> Iterator[FlaskClient]:
    return (make_app(port, APP_NODE=name, **changes).test_client() for name in ("a", "b"))


def test_a_login_on_a_node_is_valid_on_the_other_node(redis: RedisServer) -> None:
    a, b = two_nodes(redis.port)
    log_in(a)
    b.set_cookie("session", session_cookie(a) or "")
    seen = b.get("/api/session").get_json()
    assert (seen["node"], seen["started_on"], seen["user"]) == ("b", "a", USER)
    assert [each.post("/api/counter", json={}).get_json()["counter"] for each in (a, b, a)] == [1, 2, 3]
    b.post("/api/logout", json={})
    assert a.get("/api/session").status_code == 401


def test_the_acl_allows_what_the_app_needs_and_no_more(own_redis: RedisServer) -> None:
    def use_all_features() -> set[int]:
        app = make_app(own_redis.port)
        client, store = app.test_client(), store_of(app)
        statuses = [log_in(client), log_in(client), client.get("/api/session")]
        statuses.append(client.post("/api/counter", json={}))
        statuses.append(client.put("/api/note", json={"note": "x"}))
        with client.session_transaction() as session:
            assert isinstance(session, Session)
            session.pop("note")
            session.rotate()
        assert store.count().sessions == len(store.sessions_of(USER)) == 1
        statuses += [client.get("/readyz"), client.post("/api/logout", json={})]
        assert log_in(client).status_code == 200
        assert store.end_everything() == 1
        return {each.status_code for each in statuses}

    acl = own_redis.admin.execute_command
    assert use_all_features() == {200}
    assert acl("ACL", "LOG") == []
    # every permission must be needed by something
    for command in ACL_COMMANDS.split():
        acl("SCRIPT", "FLUSH")
        acl("ACL", "SETUSER", "app", command.replace("+", "-"))
        try:
            needed = use_all_features() != {200}
        except Exception:
            needed = True
        assert needed, command
        acl("ACL", "SETUSER", "app", command)
    own_redis.admin.flushall()  # a script that failed halfway may have left a key without an expiry
    app = make_app(own_redis.port)
    client: Any = store_of(app)._client
    for forbidden in (["keys", "*"], ["get", "x"], ["config", "get", "*"], ["hget", "other:session", "x"]):
        with pytest.raises(Exception, match="permission"):
            client.execute_command(*forbidden)
    assert client.hget(f"{PREFIX}x", "y") is None


@pytest.mark.parametrize(
    ("changes", "idle", "lifetime"),
    [({}, 1800, 28800), ({"APP_SESSION_IDLE_SECONDS": "60", "APP_SESSION_LIFETIME_SECONDS": "3600"}, 60, 3600)],
)
def test_sessions_expire_by_the_settings(redis: RedisServer, changes: dict[str, str], idle: int, lifetime: int) -> None:
    log_in(make_app(redis.port, **changes).test_client())
    (key,) = redis.session_keys()
    assert 0 <= idle * 1000 - redis.admin.pttl(key) < 20_000
    created, expires = map(int, redis.admin.hmget(key, "m:created", "m:expires"))
    assert expires - created == lifetime * 1000
