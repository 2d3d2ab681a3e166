"""Guessing passwords is slow, on all nodes together, and nobody keeps anybody else out: the rules of docs/login.md."""

import hashlib
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import anynode.users
import pytest
from anynode.hash_queue import HashQueue
from anynode.login_limiter import Limits, LoginLimiter, LoginRefused, network_of
from lib.demo_app import PASSWORD, USER, log_in, make_app, redis_store, token
from lib.redis_server import PREFIX
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.security import generate_password_hash

HERE, THERE = "203.0.113.9", "198.51.100.7"
ODD_NAMES = ["", "\0", "x" * 60_000, "é\U0001f600", "a:b", "{login}"]


@pytest.fixture
def hashed(monkeypatch):
    """The parameters of every hash that is computed."""
    seen = []

    def scrypt(password, *, n, r, p, **others):
        seen.append(("scrypt", n, r, p))
        return b""

    def pbkdf2(name, password, salt, iterations):
        seen.append(("pbkdf2", name, iterations))
        return right(name, password, salt, iterations)

    right = hashlib.pbkdf2_hmac
    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", pbkdf2)
    return seen


def tries(app, name=USER, password="wrong", address=HERE, **options):
    """The answer to a login of someone whose browser keeps no cookie."""
    client = app.test_client(use_cookies=False)
    account = {"username": name, "password": password}
    return client.post("/api/login", json=account, environ_base={"REMOTE_ADDR": address}, **options)


def fail(app, times, **who):
    assert [tries(app, **who).status_code for _ in range(times)] == [401] * times


def throttle(server, **limits):
    limits = {"window": 60, "client": 10, "address": 100, "account": 20, "pause": 30} | limits
    return LoginLimiter(redis_store(server), PREFIX, Limits(**limits))


def known_device(app, name=USER, address=HERE):
    """A client that was logged in to this account before."""
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = address
    assert log_in(client, name).status_code == 200
    client.post("/api/logout", json={})
    client.delete_cookie("session")
    return client


@pytest.mark.every_server
@pytest.mark.parametrize("name", [USER, "nobody"])
def test_all_nodes_count_together_and_say_the_same_of_any_name(redis, hashed, name):
    one, other = make_app(redis.port), make_app(redis.port)
    fail(one, 5, name=name)
    fail(other, 5, name=name)
    hashed.clear()
    for app in (one, other):
        response = tries(app, name, PASSWORD)
        assert response.status_code == 429
        assert 890 < int(response.headers["Retry-After"]) <= 900
        assert response.json["error"] == "Too many failed logins. Please try again in 15 minutes."
        assert response.headers["Cache-Control"] == "no-store"
    assert hashed == [], "no hash is computed for a refused try"


def test_a_refusal_is_a_page_for_people(client):
    for _ in range(10):
        log_in(client, password="wrong")
    response = client.post("/login", data={"csrf": token(client), "username": USER, "password": PASSWORD})
    assert (response.status_code, response.mimetype) == (429, "text/html")
    assert "Too many failed logins" in response.text
    assert response.headers["Retry-After"]


@pytest.mark.every_server
def test_failures_from_one_address_keep_nobody_out_elsewhere(app):
    fail(app, 10)
    assert tries(app, password=PASSWORD).status_code == 429
    assert tries(app, password=PASSWORD, address=THERE).status_code == 200
    assert tries(app, "bob", PASSWORD).status_code == 200, "nor another account at the same address"


@pytest.mark.every_server
def test_a_success_forgives_its_own_clients_failures(app):
    for _ in range(3):
        fail(app, 9)
        assert tries(app, password=PASSWORD).status_code == 200


def test_successes_never_count(redis):
    app = make_app(redis.port, APP_LOGIN_FAILURES="2", APP_LOGIN_ADDRESS_FAILURES="2", APP_LOGIN_ACCOUNT_FAILURES="2")
    for name in (USER, "bob") * 10:
        assert tries(app, name, PASSWORD).status_code == 200
    assert redis.admin.keys(f"{PREFIX}{{login}}:*") == []


@pytest.fixture
def at_once(redis, monkeypatch):
    """Makes 24 tries on 8 nodes, with a limit of 3; returns their statuses."""
    right = anynode.users.check_password_hash
    monkeypatch.setattr(anynode.users, "check_password_hash", lambda *those: time.sleep(0.1) or right(*those))
    monkeypatch.setattr("anynode.login_limiter._PATIENCE_SECONDS", 60)  # a busy computer may need it
    return partial(_at_once, redis)


def _at_once(redis, password):
    barrier = threading.Barrier(24)

    def one(app):
        barrier.wait()
        return tries(app, password=password).status_code

    apps = [make_app(redis.port, APP_LOGIN_FAILURES="3") for _ in range(8)]
    with ThreadPoolExecutor(24) as pool:
        return list(pool.map(one, apps * 3))


@pytest.mark.every_server
def test_a_burst_gets_no_more_tries_than_the_limit(at_once, unhurried, hashed):
    statuses = at_once("wrong")
    assert sorted(statuses) == [401] * 3 + [429] * 21
    assert len(hashed) == 3


def test_a_burst_of_right_ones_is_let_in(at_once, unhurried):
    assert at_once(PASSWORD) == [200] * 24


@pytest.mark.every_server
def test_an_address_gets_so_many_failures_at_all_accounts_together(redis):
    app = make_app(redis.port, APP_LOGIN_ADDRESS_FAILURES="5")
    known = known_device(app)
    for number in range(5):
        fail(app, 1, name=f"name{number}")
    assert tries(app, password=PASSWORD).status_code == 429
    assert tries(app, password=PASSWORD, address=THERE).status_code == 200
    assert log_in(known).status_code == 200, "who shares the address isn't kept out of a browser that is known"


def test_an_account_under_attack_from_everywhere_makes_strangers_wait_once_and_not_for_long(redis):
    app = make_app(redis.port, APP_LOGIN_ACCOUNT_FAILURES="5", APP_LOGIN_PAUSE_SECONDS="3")
    known = known_device(app)
    for number in range(5):
        fail(app, 1, address=f"192.0.2.{number}")
    began = time.monotonic()
    response = tries(app, password=PASSWORD)
    assert (response.status_code, response.headers["Retry-After"]) == (429, "3")
    assert log_in(known).status_code == 200
    assert tries(app, "bob", PASSWORD).status_code == 200
    stranger = 0
    while (status := tries(app, password=PASSWORD).status_code) != 200:
        assert status == 429
        assert time.monotonic() - began < 30, "refused tries must not prolong the wait"
        stranger += 1
        tries(app, address=f"192.0.2.{100 + stranger % 100}")  # the attack goes on
    assert time.monotonic() - began >= 3
    assert tries(app, password="wrong", address="192.0.2.1").status_code == 401, "an attacker had to wait, too"
    assert tries(app, password="wrong", address="192.0.2.1").status_code == 429


@pytest.mark.every_server
def test_no_list_grows_beyond_its_limit(redis):
    throttled = throttle(redis, account=3)

    def fails(more):
        """The more, the deeper: all of them are under way before the first one fails."""
        return throttled.check(USER, f"192.0.2.{more}", None, lambda: bool(more and fails(more - 1)))

    assert not fails(9)
    (key,) = redis.admin.keys(f"{PREFIX}{{login}}:account:*")
    assert redis.admin.zcard(key) == 3


@pytest.mark.every_server
def test_failures_are_forgotten_after_the_window(redis):
    throttled = throttle(redis, window=1, client=2, pause=1)
    began = time.monotonic()
    for _ in range(2):
        assert not throttled.check(USER, HERE, None, lambda: False)
    while True:
        try:
            assert throttled.check(USER, HERE, None, lambda: True)
            break
        except LoginRefused as refusal:
            assert refusal.get_response().headers["Retry-After"] == "1"
            assert time.monotonic() - began < 10
    assert time.monotonic() - began >= 1


def test_a_try_of_which_nothing_is_heard_is_forgotten_soon(redis, monkeypatch):
    monkeypatch.setattr("anynode.login_limiter._LEASE_MS", 300)
    throttled = throttle(redis, client=1)

    def dies():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        throttled.check(USER, HERE, None, dies)
    assert throttled.check(USER, HERE, None, lambda: True), "it waits for what is under way"


@pytest.mark.every_server
def test_any_name_makes_keys_of_one_length_that_expire(app, redis):
    for name in ODD_NAMES:
        fail(app, 2, name=name)
    keys = redis.admin.keys(f"{PREFIX}{{login}}:*")
    assert len(keys) == 2 * len(ODD_NAMES) + 1, "client and account of each, and one address"
    assert {len(key.rpartition(":")[2]) for key in keys} == {32}
    assert all(0 < redis.admin.ttl(key) <= 930 for key in keys)


def test_a_name_that_is_no_utf8_counts_too(client):
    data = {"csrf": token(client).encode(), "username": b"\xff\xfe", "password": b"x"}
    statuses = [client.post("/login", data=data).status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_who_has_a_network_counts_as_one(address, network):
    assert network_of(address) == network


def test_a_known_browser_has_tries_of_its_own_and_then_those_of_its_address(app):
    known = known_device(app)
    fail(app, 10)
    assert [log_in(known, password="wrong").status_code for _ in range(11)] == [401] * 10 + [429]
    assert log_in(known).status_code == 429
    known.environ_base["REMOTE_ADDR"] = THERE
    assert log_in(known).status_code == 200


def test_a_browser_is_known_at_its_own_account_only(app):
    known = known_device(app, "bob")
    fail(app, 10)
    assert log_in(known).status_code == 429


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: "x", lambda text: text + "x"])
def test_a_forged_browser_is_not_known(app, change):
    known = known_device(app)
    fail(app, 10)
    known.set_cookie("browser", change(known.get_cookie("browser").value))
    assert log_in(known).status_code == 429


def test_a_browser_is_not_known_for_ever(app, monkeypatch):
    known = known_device(app)
    fail(app, 10)
    monkeypatch.setattr("anynode.device_cookie.KNOWN_SECONDS", -1)
    assert log_in(known).status_code == 429


def test_who_knew_an_older_password_is_a_stranger(redis):
    old = known_device(make_app(redis.port)).get_cookie("browser").value
    app = make_app(redis.port, APP_USERS=json.dumps({USER: generate_password_hash("new", MIXED["old"])}))
    fail(app, 10)
    later = app.test_client()
    later.environ_base["REMOTE_ADDR"] = HERE
    later.set_cookie("browser", old)
    assert log_in(later, password="new").status_code == 429


def test_the_cookie_of_a_known_browser(redis):
    def cookie(response):
        (line,) = [each for each in response.headers.getlist("Set-Cookie") if "browser=" in each]
        return re.sub("Expires=[^;]*; ", "", line)

    shape = r"browser=[A-Za-z0-9._-]{50,200}; {}HttpOnly; Path=/; SameSite=Strict"
    plain, secure = make_app(redis.port), make_app(redis.port, APP_COOKIE_SECURE="true")
    assert re.fullmatch(shape.replace("{}", "Max-Age=7776000; "), cookie(tries(plain, password=PASSWORD)))
    line = cookie(tries(secure, password=PASSWORD))
    assert re.fullmatch("__Host-" + shape.replace("{}", "Max-Age=7776000; Secure; "), line)
    assert "Set-Cookie" not in tries(plain).headers


@pytest.mark.parametrize("way", ["page", "api"])
def test_the_password_that_is_asked_for_again_counts_too(logged_in, way):
    def confirm():
        if way == "api":
            return logged_in.delete("/api/sessions", json={"password": "wrong"})
        form = {"csrf": token(logged_in), "password": "wrong", "end": "others"}
        return logged_in.post("/sessions", data=form)

    logged_in.delete_cookie("browser")
    assert [confirm().status_code for _ in range(11)] == [403] * 10 + [429]


@pytest.mark.every_server
def test_a_foreign_value_in_the_place_of_a_count_harms_nobody(app, redis):
    fail(app, 1)
    for key in redis.admin.keys(f"{PREFIX}{{login}}:*"):
        redis.admin.set(key, "x", ex=100)
    assert tries(app, password=PASSWORD).status_code == 200


MIXED = {"old": "pbkdf2:sha256:1000", "new": "scrypt:16384:8:5", "other": "scrypt:32768:8:1"}


@pytest.mark.parametrize("name", [*MIXED, "nobody", ""])
def test_every_name_costs_the_same_hashes(redis, hashed, name):
    users = {each: f"{method}$salt${'0' * 64}" for each, method in MIXED.items()}
    tries(make_app(redis.port, APP_USERS=json.dumps(users)), name)
    assert sorted(hashed) == [("pbkdf2", "sha256", 1000), ("scrypt", 16384, 8, 5), ("scrypt", 32768, 8, 1)]


@pytest.mark.parametrize("method", MIXED.values())
def test_each_kind_of_hash_lets_its_user_in(redis, method):
    users = {USER: generate_password_hash(PASSWORD, method), "bob": generate_password_hash("x", MIXED["old"])}
    app = make_app(redis.port, APP_USERS=json.dumps(users))
    assert tries(app, password=PASSWORD).status_code == 200
    assert tries(app, password="x").status_code == 401


def test_a_password_of_absurd_length_is_refused_before_it_is_hashed(app, hashed):
    assert tries(app, password="é" * 512).status_code == 401
    hashed.clear()
    for name in (USER, "nobody"):
        response = tries(app, name, "é" * 513)
        assert (response.status_code, response.json["error"]) == (400, "A password may have 1024 bytes at most.")
    assert hashed == []


@pytest.fixture
def busy(app, monkeypatch):
    """Begin so many logins as may wait, of which one computes its hash; return an event that lets them end."""
    computing, go_on = threading.Event(), threading.Event()
    at_once = []

    def slow(hash, password):
        at_once.append(1)
        computing.set()
        assert go_on.wait(60)
        at_once.pop()
        return len(at_once) > 0  # with another one at the same time, a login would succeed

    @contextmanager
    def begin():
        monkeypatch.setattr(anynode.users, "check_password_hash", slow)
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(tries, app, address=f"192.0.2.{number}") for number in range(4)]
            try:
                assert computing.wait(60)
                places = app.extensions["turnstile"]._places
                while places._value:
                    time.sleep(0.01)
                yield
                assert len(at_once) == 1
            finally:
                go_on.set()
            assert {each.result().status_code for each in waiting} == {401}

    return begin


def test_one_hash_at_a_time_and_few_wait(app, busy):
    with busy():
        response = tries(app)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert app.test_client().get("/api/session").status_code == 401, "others are served"


def test_a_try_that_nobody_had_time_for_does_not_count(app, redis, busy):
    known = known_device(app)
    with busy():
        before = sorted(redis.admin.keys(f"{PREFIX}{{login}}:*"))
        assert [tries(app).status_code for _ in range(11)] == [503] * 11
        assert [log_in(known, password="wrong").status_code for _ in range(11)] == [503] * 11
        assert sorted(redis.admin.keys(f"{PREFIX}{{login}}:*")) == before


def test_who_is_refused_takes_no_place_and_waits_for_none(app, busy):
    fail(app, 10)
    with busy():
        assert tries(app).status_code == 429
    with app.extensions["turnstile"].gate:
        assert tries(app).status_code == 429


def test_who_waits_for_tries_under_way_keeps_nobody_else_waiting(redis, monkeypatch):
    """They are decided on other nodes."""
    app = make_app(redis.port, APP_LOGIN_FAILURES="1")
    monkeypatch.setattr("anynode.login_limiter._PATIENCE_SECONDS", 60)

    def under_way():
        asks = pool.submit(tries, app)
        places = app.extensions["turnstile"]._places
        while places._value == 4:
            time.sleep(0.01)
        assert tries(app, password=PASSWORD, address=THERE).status_code == 200
        assert not asks.done()
        pending.append(asks)
        return False

    pending = []
    with ThreadPoolExecutor(1) as pool:
        assert not throttle(redis, client=1).check(USER, HERE, None, under_way)
        assert pending[0].result().status_code == 429


def test_a_turnstile_is_free_again_after_an_error():
    turnstile = HashQueue(1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), turnstile.place():
            raise ZeroDivisionError
    with turnstile.place(), pytest.raises(ServiceUnavailable), turnstile.place():
        pass
