"""The login limiter: guessing is slow on all nodes together, and attackers can't block users.

The rules: docs/explanation/login-limiter.md.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import anynode.users
import pytest
from anynode.login_limiter import Limits, LoginLimiter, LoginLimitError
from flask import Flask
from flask.testing import FlaskClient
from lib.demo_app import PASSWORD, USER, log_in, make_app, redis_store, session_cookie, token
from lib.redis_server import PREFIX, RedisServer
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.test import TestResponse

Hash = tuple[str | int, ...]
Busy = Callable[[], AbstractContextManager[None]]

HERE, THERE = "203.0.113.9", "198.51.100.7"
ODD_NAMES = ["", "\0", "x" * 60_000, "é\U0001f600", "a:b", "{login}"]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Hash]:
    """The parameters of every hash that is computed."""
    seen: list[Hash] = []

    def scrypt(password: bytes, *, n: int, r: int, p: int, **others: object) -> bytes:
        seen.append(("scrypt", n, r, p))
        return b""

    def pbkdf2(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        seen.append(("pbkdf2", name, iterations))
        return right(name, password, salt, iterations)

    right = hashlib.pbkdf2_hmac
    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", pbkdf2)
    return seen


def attempt(app: Flask, name: str = USER, password: str = "wrong", address: str = HERE, **options: Any) -> TestResponse:
    """The response to a login of a client without cookies."""
    client = app.test_client(use_cookies=False)
    account = {"username": name, "password": password}
    return client.post("/api/login", json=account, environ_base={"REMOTE_ADDR": address}, **options)


def fail(app: Flask, times: int, **client: Any) -> None:
    assert [attempt(app, **client).status_code for _ in range(times)] == [401] * times


def login_limiter(server: RedisServer, **limits: int) -> LoginLimiter:
    limits = {"window": 60, "client": 10, "address": 100, "account": 20, "pause": 30} | limits
    return LoginLimiter(redis_store(server), PREFIX, Limits(**limits))


def known_device(app: Flask, name: str = USER, address: str = HERE) -> FlaskClient:
    """A client with a device cookie for this account."""
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = address
    assert log_in(client, name).status_code == 200
    client.post("/api/logout", json={})
    client.delete_cookie("session")
    return client


@pytest.mark.every_server
@pytest.mark.parametrize("name", [USER, "nobody"])
def test_all_nodes_share_the_counts_and_respond_alike_to_any_name(
    redis: RedisServer, hashed: list[Hash], name: str
) -> None:
    one, other = make_app(redis.port), make_app(redis.port)
    fail(one, 5, name=name)
    fail(other, 5, name=name)
    hashed.clear()
    for app in (one, other):
        response = attempt(app, name, PASSWORD)
        assert response.status_code == 429
        assert 890 < int(response.headers["Retry-After"]) <= 900
        assert response.get_json()["error"] == "Too many failed logins. Please try again in 15 minutes."
        assert response.headers["Cache-Control"] == "no-store"
    assert hashed == [], "no hash is computed for a refused attempt"


def test_a_refusal_is_a_page_in_the_browser(client: FlaskClient) -> None:
    for _ in range(10):
        log_in(client, password="wrong")
    response = client.post("/login", data={"csrf": token(client), "username": USER, "password": PASSWORD})
    assert (response.status_code, response.mimetype) == (429, "text/html")
    assert "Too many failed logins" in response.text
    assert response.headers["Retry-After"]


@pytest.mark.every_server
def test_failures_from_an_address_do_not_block_other_addresses(app: Flask) -> None:
    fail(app, 10)
    assert attempt(app, password=PASSWORD).status_code == 429
    assert attempt(app, password=PASSWORD, address=THERE).status_code == 200
    assert attempt(app, "bob", PASSWORD).status_code == 200, "another account at the same address"


@pytest.mark.every_server
def test_a_success_resets_the_failures_of_the_same_client(app: Flask) -> None:
    for _ in range(3):
        fail(app, 9)
        assert attempt(app, password=PASSWORD).status_code == 200


def test_successes_never_count(redis: RedisServer) -> None:
    app = make_app(redis.port, APP_LOGIN_FAILURES="2", APP_LOGIN_ADDRESS_FAILURES="2", APP_LOGIN_ACCOUNT_FAILURES="2")
    for name in (USER, "bob") * 10:
        assert attempt(app, name, PASSWORD).status_code == 200
    assert redis.admin.keys(f"{PREFIX}{{login}}:*") == []


@pytest.fixture
def concurrent_attempts(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[int]]:
    """Makes 24 concurrent attempts on 8 nodes, with a limit of 3; returns their statuses."""

    def slow(*those: str) -> bool:
        time.sleep(0.1)
        return check_password_hash(*those)

    monkeypatch.setattr(anynode.users, "check_password_hash", slow)
    monkeypatch.setattr("anynode.login_limiter._RETRY_SECONDS", 60)  # for a slow host
    return partial(_concurrent_attempts, redis)


def _concurrent_attempts(redis: RedisServer, password: str) -> list[int]:
    barrier = threading.Barrier(24)

    def one(app: Flask) -> int:
        barrier.wait()
        return attempt(app, password=password).status_code

    apps = [make_app(redis.port, APP_LOGIN_FAILURES="3") for _ in range(8)]
    with ThreadPoolExecutor(24) as pool:
        return list(pool.map(one, apps * 3))


@pytest.mark.every_server
def test_a_burst_gets_no_more_attempts_than_the_limit(
    concurrent_attempts: Callable[[str], list[int]], long_timeouts: None, hashed: list[Hash]
) -> None:
    statuses = concurrent_attempts("wrong")
    assert sorted(statuses) == [401] * 3 + [429] * 21
    assert len(hashed) == 3


def test_a_burst_of_correct_logins_succeeds(
    concurrent_attempts: Callable[[str], list[int]], long_timeouts: None
) -> None:
    assert concurrent_attempts(PASSWORD) == [200] * 24


@pytest.mark.every_server
def test_the_limit_of_an_address_applies_to_all_accounts_together(redis: RedisServer) -> None:
    app = make_app(redis.port, APP_LOGIN_ADDRESS_FAILURES="5")
    known = known_device(app)
    for number in range(5):
        fail(app, 1, name=f"name{number}")
    assert attempt(app, password=PASSWORD).status_code == 429
    assert attempt(app, password=PASSWORD, address=THERE).status_code == 200
    assert log_in(known).status_code == 200, "a device cookie works at the same address"


def test_an_account_under_distributed_attack_makes_unknown_clients_wait_once_and_briefly(redis: RedisServer) -> None:
    app = make_app(redis.port, APP_LOGIN_ACCOUNT_FAILURES="5", APP_LOGIN_PAUSE_SECONDS="3")
    known = known_device(app)
    for number in range(5):
        fail(app, 1, address=f"192.0.2.{number}")
    began = time.monotonic()
    response = attempt(app, password=PASSWORD)
    assert (response.status_code, response.headers["Retry-After"]) == (429, "3")
    assert log_in(known).status_code == 200
    assert attempt(app, "bob", PASSWORD).status_code == 200
    attackers = 0
    while (status := attempt(app, password=PASSWORD).status_code) != 200:
        assert status == 429
        assert time.monotonic() - began < 30, "refused attempts must not extend the wait"
        attackers += 1
        attempt(app, address=f"192.0.2.{100 + attackers % 100}")  # the attack continues
    assert time.monotonic() - began >= 3
    assert attempt(app, password="wrong", address="192.0.2.1").status_code == 401, "an attacker had to wait, too"
    assert attempt(app, password="wrong", address="192.0.2.1").status_code == 429


@pytest.mark.every_server
def test_no_list_grows_beyond_its_limit(redis: RedisServer) -> None:
    limiter = login_limiter(redis, account=3)

    def fails(more: int) -> bool:
        """Recursive: all attempts are in progress before the first attempt fails."""
        return limiter.check(USER, f"192.0.2.{more}", None, lambda: bool(more and fails(more - 1)))

    assert not fails(9)
    (key,) = redis.admin.keys(f"{PREFIX}{{login}}:account:*")
    assert redis.admin.zcard(key) == 3


@pytest.mark.every_server
def test_failures_are_forgotten_after_the_window(redis: RedisServer) -> None:
    limiter = login_limiter(redis, window=1, client=2, pause=1)
    began = time.monotonic()
    for _ in range(2):
        assert not limiter.check(USER, HERE, None, lambda: False)
    while True:
        try:
            assert limiter.check(USER, HERE, None, lambda: True)
            break
        except LoginLimitError as refusal:
            assert refusal.get_response().headers["Retry-After"] == "1"
            assert time.monotonic() - began < 10
    assert time.monotonic() - began >= 1


def test_an_attempt_without_a_result_expires_soon(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anynode.login_limiter._LEASE_MS", 300)
    limiter = login_limiter(redis, client=1)

    def dies() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        limiter.check(USER, HERE, None, dies)
    assert limiter.check(USER, HERE, None, lambda: True), "it waits for the attempt in progress"


@pytest.mark.every_server
def test_any_name_creates_keys_of_fixed_length_that_expire(app: Flask, redis: RedisServer) -> None:
    for name in ODD_NAMES:
        fail(app, 2, name=name)
    keys = redis.admin.keys(f"{PREFIX}{{login}}:*")
    assert len(keys) == 2 * len(ODD_NAMES) + 1, "client and account of each name, and the address"
    assert {len(key.rpartition(":")[2]) for key in keys} == {32}
    assert all(0 < redis.admin.ttl(key) <= 930 for key in keys)


def test_a_name_that_is_not_utf8_counts(client: FlaskClient) -> None:
    data = {"csrf": token(client).encode(), "username": b"\xff\xfe", "password": b"x"}
    statuses = [client.post("/login", data=data).status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]


def test_a_device_cookie_gives_additional_attempts(app: Flask) -> None:
    known = known_device(app)
    fail(app, 10)
    assert [log_in(known, password="wrong").status_code for _ in range(11)] == [401] * 10 + [429]
    assert log_in(known).status_code == 429
    known.environ_base["REMOTE_ADDR"] = THERE
    assert log_in(known).status_code == 200


def test_a_device_cookie_is_valid_for_its_account_only(app: Flask) -> None:
    known = known_device(app, "bob")
    fail(app, 10)
    assert log_in(known).status_code == 429


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: "x", lambda text: text + "x"])
def test_a_forged_device_cookie_is_ignored(app: Flask, change: Callable[[str], str]) -> None:
    known = known_device(app)
    fail(app, 10)
    cookie = session_cookie(known, "device")
    assert cookie
    known.set_cookie("device", change(cookie))
    assert log_in(known).status_code == 429


def test_a_device_cookie_expires(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_device(app)
    fail(app, 10)
    monkeypatch.setattr("anynode.device_cookie.LIFETIME_SECONDS", -1)
    assert log_in(known).status_code == 429


def test_a_changed_password_invalidates_device_cookies(redis: RedisServer) -> None:
    old = session_cookie(known_device(make_app(redis.port)), "device")
    assert old
    app = make_app(redis.port, APP_USERS=json.dumps({USER: generate_password_hash("new", MIXED["old"])}))
    fail(app, 10)
    later = app.test_client()
    later.environ_base["REMOTE_ADDR"] = HERE
    later.set_cookie("device", old)
    assert log_in(later, password="new").status_code == 429


def test_the_attributes_of_the_device_cookie(redis: RedisServer) -> None:
    def cookie(response: TestResponse) -> str:
        (line,) = [each for each in response.headers.getlist("Set-Cookie") if "device=" in each]
        return re.sub("Expires=[^;]*; ", "", line)

    shape = r"device=[A-Za-z0-9._-]{50,200}; {}HttpOnly; Path=/; SameSite=Strict"
    plain, secure = make_app(redis.port), make_app(redis.port, APP_COOKIE_SECURE="true")
    assert re.fullmatch(shape.replace("{}", "Max-Age=7776000; "), cookie(attempt(plain, password=PASSWORD)))
    line = cookie(attempt(secure, password=PASSWORD))
    assert re.fullmatch("__Host-" + shape.replace("{}", "Max-Age=7776000; Secure; "), line)
    assert "Set-Cookie" not in attempt(plain).headers


@pytest.mark.parametrize("interface", ["page", "api"])
def test_confirming_the_password_counts(logged_in: FlaskClient, interface: str) -> None:
    def confirm() -> TestResponse:
        if interface == "api":
            return logged_in.delete("/api/sessions", json={"password": "wrong"})
        form = {"csrf": token(logged_in), "password": "wrong", "end": "others"}
        return logged_in.post("/sessions", data=form)

    logged_in.delete_cookie("device")
    assert [confirm().status_code for _ in range(11)] == [403] * 10 + [429]


@pytest.mark.every_server
def test_a_foreign_value_in_place_of_a_count_is_tolerated(app: Flask, redis: RedisServer) -> None:
    fail(app, 1)
    for key in redis.admin.keys(f"{PREFIX}{{login}}:*"):
        redis.admin.set(key, "x", ex=100)
    assert attempt(app, password=PASSWORD).status_code == 200


MIXED = {"old": "pbkdf2:sha256:1000", "new": "scrypt:16384:8:5", "other": "scrypt:32768:8:1"}


@pytest.mark.parametrize("name", [*MIXED, "nobody", ""])
def test_every_name_costs_the_same_hashes(redis: RedisServer, hashed: list[Hash], name: str) -> None:
    users = {each: f"{method}$salt${'0' * 64}" for each, method in MIXED.items()}
    attempt(make_app(redis.port, APP_USERS=json.dumps(users)), name)
    assert sorted(hashed) == [("pbkdf2", "sha256", 1000), ("scrypt", 16384, 8, 5), ("scrypt", 32768, 8, 1)]


@pytest.mark.parametrize("method", MIXED.values())
def test_each_kind_of_hash_allows_a_login(redis: RedisServer, method: str) -> None:
    users = {USER: generate_password_hash(PASSWORD, method), "bob": generate_password_hash("x", MIXED["old"])}
    app = make_app(redis.port, APP_USERS=json.dumps(users))
    assert attempt(app, password=PASSWORD).status_code == 200
    assert attempt(app, password="x").status_code == 401


def test_a_very_long_password_is_refused_before_it_is_hashed(app: Flask, hashed: list[Hash]) -> None:
    assert attempt(app, password="é" * 512).status_code == 401
    hashed.clear()
    for name in (USER, "nobody"):
        response = attempt(app, name, "é" * 513)
        assert (response.status_code, response.get_json()["error"]) == (400, "A password may have at most 1024 bytes.")
    assert hashed == []


@pytest.fixture
def busy(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Busy:
    """A context manager with as many logins in progress as may wait; the first computes its hash until the end."""
    computing, may_end = threading.Event(), threading.Event()
    concurrent = []

    def slow(hash: str, password: str) -> bool:
        concurrent.append(1)
        computing.set()
        assert may_end.wait(60)
        concurrent.pop()
        return len(concurrent) > 0  # a login would succeed if another hash were computed at the same time

    @contextmanager
    def begin() -> Iterator[None]:
        monkeypatch.setattr(anynode.users, "check_password_hash", slow)
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(attempt, app, address=f"192.0.2.{number}") for number in range(4)]
            try:
                assert computing.wait(60)
                slots = app.extensions["hash_queue"]._slots
                while slots._value:
                    time.sleep(0.01)
                yield
                assert len(concurrent) == 1
            finally:
                may_end.set()
            assert {each.result().status_code for each in waiting} == {401}

    return begin


def test_a_single_hash_is_computed_at_a_time_and_few_threads_wait(app: Flask, busy: Busy) -> None:
    with busy():
        response = attempt(app)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert app.test_client().get("/api/session").status_code == 401, "other requests are served"


def test_an_attempt_refused_as_busy_does_not_count(app: Flask, redis: RedisServer, busy: Busy) -> None:
    known = known_device(app)
    with busy():
        before = sorted(redis.admin.keys(f"{PREFIX}{{login}}:*"))
        assert [attempt(app).status_code for _ in range(11)] == [503] * 11
        assert [log_in(known, password="wrong").status_code for _ in range(11)] == [503] * 11
        assert sorted(redis.admin.keys(f"{PREFIX}{{login}}:*")) == before


def test_a_refused_attempt_needs_no_slot(app: Flask, busy: Busy) -> None:
    fail(app, 10)
    with busy():
        assert attempt(app).status_code == 429
    with app.extensions["hash_queue"].lock:
        assert attempt(app).status_code == 429


def test_an_attempt_that_waits_for_other_attempts_delays_no_other_login(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other attempts are made on other nodes."""
    app = make_app(redis.port, APP_LOGIN_FAILURES="1")
    monkeypatch.setattr("anynode.login_limiter._RETRY_SECONDS", 60)

    def in_progress() -> bool:
        waiting = pool.submit(attempt, app)
        slots = app.extensions["hash_queue"]._slots
        while slots._value == 4:
            time.sleep(0.01)
        assert attempt(app, password=PASSWORD, address=THERE).status_code == 200
        assert not waiting.done()
        pending.append(waiting)
        return False

    pending: list[Future[TestResponse]] = []
    with ThreadPoolExecutor(1) as pool:
        assert not login_limiter(redis, client=1).check(USER, HERE, None, in_progress)
        assert pending[0].result().status_code == 429
