"""An app node: health, headers, trusted proxies, settings, and sessions shared with other nodes."""

import json

import pytest
from anynode.config import Config, ConfigError
from lib.demo_app import USER, environ, log_in, make_app, session_cookie
from lib.redis_server import ACL_COMMANDS, PREFIX, REDIS_PASSWORD
from werkzeug.security import check_password_hash, generate_password_hash


def test_healthz_never_queries_redis(logged_in, redis):
    with redis.monitor() as seen:
        response = logged_in.get("/healthz")
    assert seen.sent == []
    assert response.json == {"status": "ok", "node": "app1", "release": "r1"}
    assert "Set-Cookie" not in response.headers


@pytest.mark.every_server
def test_readyz_queries_redis_once_and_stores_nothing(client, redis):
    assert client.get("/readyz").status_code == 200
    before = redis.aof_bytes()
    with redis.monitor() as seen:
        assert client.get("/readyz").json["status"] == "ok"
    assert (seen.sent, seen.inside) == (["EVALSHA"], [])
    assert (redis.aof_bytes(), redis.admin.dbsize()) == (before, 0)


@pytest.mark.parametrize("path", ["/", "/nothing", "/api/session", "/healthz", "/static/style.css"])
def test_every_response_names_node_release_and_deployment(client, path):
    headers = client.get(path).headers
    assert (headers["X-Node"], headers["X-Release"], headers["X-Deployment"]) == ("app1", "r1", "none")
    assert len(headers["X-Request-ID"]) == 32


FORWARDED = {
    "X-Forwarded-For": "6.6.6.6, 203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "www.test",
    "X-Request-ID": "abc.DEF-123_4",
}


def _seen_by(app, address):
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
def test_headers_of_a_trusted_proxy_are_used(redis, address):
    response = _seen_by(make_app(redis.port, APP_TRUSTED_PROXIES="10.0.0.4, 10.0.0.5"), address)
    assert response.json["from"] == "203.0.113.9"
    assert response.json["url"] == "https://www.test/"
    assert response.headers["X-Request-ID"] == "abc.DEF-123_4"


@pytest.mark.parametrize("address", ["10.0.0.6", "127.0.0.1", ""])
def test_headers_of_other_clients_are_ignored(redis, address):
    response = _seen_by(make_app(redis.port, APP_TRUSTED_PROXIES="10.0.0.5"), address)
    assert response.json == {"from": address, "url": "http://localhost/", "forwarded": None}
    assert response.headers["X-Request-ID"] != "abc.DEF-123_4"


@pytest.mark.parametrize("request_id", ["short", "x" * 65, "with space", "a<script>b"])
def test_an_invalid_request_id_is_replaced(redis, request_id):
    client = make_app(redis.port, APP_TRUSTED_PROXIES="127.0.0.1").test_client()
    assert client.get("/", headers={"X-Request-ID": request_id}).headers["X-Request-ID"] != request_id


def test_the_origin_is_compared_with_the_forwarded_host(redis):
    client = make_app(redis.port, APP_TRUSTED_PROXIES="127.0.0.1").test_client()
    headers = {"X-Forwarded-Host": "www.test", "X-Forwarded-Proto": "https", "Origin": "https://www.test"}
    assert client.post("/api/logout", json={}, headers=headers).status_code == 200
    assert client.post("/api/logout", json={}, headers=headers | {"Origin": "https://x.test"}).status_code == 403


def two_nodes(port, **changes):
    return (make_app(port, APP_NODE=name, **changes).test_client() for name in ("a", "b"))


def test_a_login_on_a_node_is_valid_on_the_other_node(redis):
    a, b = two_nodes(redis.port)
    log_in(a)
    b.set_cookie("session", session_cookie(a))
    seen = b.get("/api/session").json
    assert (seen["node"], seen["started_on"], seen["user"]) == ("b", "a", "ada")
    assert [each.post("/api/counter", json={}).json["counter"] for each in (a, b, a)] == [1, 2, 3]
    b.post("/api/logout", json={})
    assert a.get("/api/session").status_code == 401


def test_control_sessions_in_memory_are_unknown_on_the_other_node():
    a, b = two_nodes(1, APP_SESSION_STORE="memory", APP_REDIS_HOST=None, APP_REDIS_PASSWORD=None)
    log_in(a)
    assert a.get("/api/session").status_code == 200
    b.set_cookie("session", session_cookie(a))
    assert b.get("/api/session").status_code == 401
    assert b.get("/readyz").status_code == 200


def test_the_acl_allows_what_the_app_needs_and_no_more(own_redis):
    def use_all_features():
        app = make_app(own_redis.port)
        client, store = app.test_client(), app.session_interface.store
        statuses = [log_in(client), log_in(client), client.get("/api/session")]
        statuses.append(client.post("/api/counter", json={}))
        statuses.append(client.put("/api/note", json={"note": "x"}))
        with client.session_transaction() as session:
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
    client = app.session_interface.store._client
    for forbidden in (["keys", "*"], ["get", "x"], ["config", "get", "*"], ["hget", "other:session", "x"]):
        with pytest.raises(Exception, match="permission"):
            client.execute_command(*forbidden)
    assert client.hget(f"{PREFIX}x", "y") is None


def test_the_settings_have_defaults():
    config = Config.from_environ(environ(APP_COOKIE_SECURE=None))
    assert (config.session_idle_seconds, config.session_lifetime_seconds) == (1800, 28800)
    assert config.sessions_per_user == 10
    assert (config.session_store, config.session_prefix, config.redis_username) == (
        "redis",
        "anynode:",
        "app",
    )
    assert (config.cookie_secure, config.trusted_proxies) == (True, frozenset())


@pytest.mark.parametrize(
    ("changes", "idle", "lifetime"),
    [({}, 1800, 28800), ({"APP_SESSION_IDLE_SECONDS": "60", "APP_SESSION_LIFETIME_SECONDS": "3600"}, 60, 3600)],
)
def test_sessions_expire_by_the_settings(redis, changes, idle, lifetime):
    log_in(make_app(redis.port, **changes).test_client())
    (key,) = redis.session_keys()
    assert 0 <= idle * 1000 - redis.admin.pttl(key) < 20_000
    created, expires = map(int, redis.admin.hmget(key, "m:created", "m:expires"))
    assert expires - created == lifetime * 1000


@pytest.mark.parametrize("method", ["scrypt:128:8:1", "scrypt:32768:1:1", "scrypt:16384:8:5", "pbkdf2:sha1:1"])
def test_a_hash_that_is_accepted_can_be_computed(method):
    users = json.dumps({"a": generate_password_hash("x", method)})
    config = Config.from_environ(environ(APP_USERS=users))
    assert check_password_hash(config.users["a"], "x")


def test_secrets_are_not_in_the_repr():
    config = Config.from_environ(environ())
    for secret in (config.secret_key, REDIS_PASSWORD, "pbkdf2"):
        assert secret not in repr(config)


# hashes that would fail at every login, or need too much memory
UNCOMPUTABLE = ("scrypt:1:1:1", "scrypt:16383:8:5", "scrypt:16384:0:5", "scrypt:16384:8:0", "scrypt:524288:8:1")
UNCOMPUTABLE += ("scrypt:16384:8:128", "pbkdf2:sha256:0", "pbkdf2:sha256:2147483648")
INVALID = {
    "APP_NODE": ["", "a b", "x\ny", None],
    "APP_RELEASE": ["", "a/b"],
    "APP_SECRET_KEY": [None, "short", "changeme" * 8, "please-CHANGE-ME-" * 3, "x" * 31],
    "APP_USERS": [None, "", "{", "[]", "{}", '{"a": "plain"}', '{"a": 1}', '{"": "scrypt:16384:8:5$a$b"}']
    + [f'{{"a": "{method}$a$b"}}' for method in UNCOMPUTABLE],
    "APP_SESSION_STORE": ["mysql", ""],
    "APP_REDIS_HOST": [None, "", "redis://x/"],
    "APP_REDIS_PORT": ["0", "65536", "x", "-1", "²"],
    "APP_REDIS_PASSWORD": [None, "", "changeme", "<password>", "your-password"],
    "APP_SESSION_PREFIX": ["", "{a}", "a b"],
    "APP_SESSION_IDLE_SECONDS": ["0", "1.5", ""],
    "APP_SESSION_LIFETIME_SECONDS": ["-3", "9" * 99],
    "APP_SESSIONS_PER_USER": ["0", "1001", "many"],
    "APP_COOKIE_SECURE": ["yes", "True", ""],
    "APP_LOGIN_WINDOW_SECONDS": ["59", "86401"],
    "APP_LOGIN_FAILURES": ["0", "1001"],
    "APP_LOGIN_ADDRESS_FAILURES": ["0", "1001"],
    "APP_LOGIN_ACCOUNT_FAILURES": ["0", "1001"],
    "APP_LOGIN_PAUSE_SECONDS": ["0", "61"],
    "APP_LOGIN_THREADS": ["0", "x"],
    "PROMETHEUS_MULTIPROC_DIR": ["/nowhere", "/etc/hosts"],
    "APP_TRUSTED_PROXIES": ["10.0.0.0/8", "proxy"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INVALID.items() for value in values])
def test_an_invalid_setting_is_named(name, value):
    with pytest.raises(ConfigError) as caught:
        Config.from_environ(environ(**{name: value}))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"  {name} ")


def test_all_invalid_settings_are_named_at_once_without_secrets():
    with pytest.raises(ConfigError) as caught:
        Config.from_environ({"APP_SECRET_KEY": "changeme-123", "APP_USERS": json.dumps({"ada": "hunter2"})})
    message = str(caught.value)
    for name in ("APP_NODE", "APP_SECRET_KEY", "APP_USERS", "APP_REDIS_HOST", "APP_REDIS_PASSWORD"):
        assert name in message
    for secret in ("changeme-123", "hunter2", "ada"):
        assert secret not in message
