"""Session metrics: each event moves exactly its counters."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask_shared_session import Session, SessionEnded, SessionStoreError, SharedSessionInterface, Store
from flask_shared_session.ids import digest, index_name, make_id
from flask_shared_session.metrics import SessionMetrics
from lib.demo_app import PASSWORD, USER, Server, log_in, make_app, redis_store, session_cookie
from lib.redis_server import RedisServer, free_port
from prometheus_client import CollectorRegistry, generate_latest
from redis import Redis


class Metered:
    """A store with metrics of its own, and an app that uses it."""

    def __init__(self, server: Server, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.store = redis_store(server, observer=SessionMetrics(self.registry), **options)
        self.app = make_app(server.port)
        self.app.session_interface = SharedSessionInterface(self.store)
        self.client = self.app.test_client()

    def scrape(self) -> str:
        return generate_latest(self.registry).decode()

    def counts(self) -> dict[str, float]:
        """Every counter, and the number of timings of each step: "logins", "ended logout", "store_seconds read"."""
        return {
            " ".join([sample.name.removeprefix("anynode_sessions_"), *sample.labels.values()]): sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name.endswith(("_total", "_count"))
        }

    @contextmanager
    def record(self) -> Iterator[dict[str, float]]:
        """Records the change of each counter."""
        before = self.counts()
        moved: dict[str, float] = {}
        yield moved
        moved |= {
            name.replace("_total", "").replace("_count", ""): value - before.get(name, 0)
            for name, value in self.counts().items()
            if value != before.get(name, 0)
        }


@pytest.fixture
def metered(redis: RedisServer) -> Metered:
    return Metered(redis)


def begin(store: Store, user: str = USER) -> str:
    """The id of a new session of this user."""
    session = Session(store, None)
    session["a"] = 1
    session.log_in(user)
    session.save()
    assert session.new_id
    return session.new_id


def test_requests_with_and_without_a_session(metered: Metered) -> None:
    with metered.record() as moved:
        metered.client.get("/")
    assert moved == {"requests none": 1}
    log_in(metered.client)
    with metered.record() as moved:
        for _ in range(3):
            metered.client.get("/api/session")
    assert moved == {"requests found": 3, "store_seconds read": 3}


def test_requests_that_do_not_use_the_session_are_not_counted(metered: Metered) -> None:
    log_in(metered.client)
    with metered.record() as moved:
        for path in ("/healthz", "/static/style.css", "/nothing"):
            metered.client.get(path)
    assert moved == {}


def test_a_request_that_fails_to_save_is_counted_once(metered: Metered) -> None:
    from flask import session

    metered.app.add_url_rule("/set", view_func=lambda: session.update(bad=object()) or "")
    with metered.record() as moved:
        assert metered.client.get("/set").status_code == 500
    assert moved == {"requests none": 1}


def test_a_login_and_the_replaced_session(metered: Metered) -> None:
    with metered.record() as moved:
        log_in(metered.client)
    assert moved == {"requests none": 1, "logins": 1, "store_seconds create": 1}
    with metered.record() as moved:
        log_in(metered.client)
    steps = {"store_seconds read": 1, "store_seconds create": 1}
    assert moved == {"requests found": 1, "logins": 1, "ended replaced": 1} | steps


def test_a_login_beyond_the_limit(redis: RedisServer) -> None:
    metered = Metered(redis, per_user=2)
    for _ in range(2):
        begin(metered.store)
    with metered.record() as moved:
        begin(metered.store)
    assert moved == {"logins": 1, "ended cap": 1, "store_seconds create": 1}


def test_a_session_without_a_user_is_no_login(metered: Metered) -> None:
    with metered.record() as moved, metered.client.session_transaction() as session:
        session["cart"] = 1
    assert moved == {"store_seconds create": 1}


def test_a_rotation_is_not_a_login_and_a_login_no_rotation(metered: Metered) -> None:
    session = Session(metered.store, begin(metered.store))
    session.rotate()
    with metered.record() as moved:
        session.save()
        session.save()
    assert moved == {"rotations": 1, "store_seconds update": 1}


def test_a_write_counts_only_as_a_step(metered: Metered) -> None:
    session = Session(metered.store, begin(metered.store))
    session["a"] = 2
    with metered.record() as moved:
        session.save()
        session.increment("n")
    assert moved == {"store_seconds update": 1, "store_seconds increment": 1}


def test_a_logout_ends_a_session_once(metered: Metered) -> None:
    log_in(metered.client)
    cookie = session_cookie(metered.client)
    assert cookie
    with metered.record() as moved:
        metered.client.post("/api/logout", json={})
    assert moved == {"requests found": 1, "ended logout": 1, "store_seconds delete": 1}
    metered.client.set_cookie("session", cookie)
    with metered.record() as moved:
        metered.client.post("/api/logout", json={})
    assert moved == {"requests none": 1, "unknown_ids": 1, "store_seconds delete": 1}


def test_a_logout_after_a_read_ends_a_session_once(metered: Metered) -> None:
    session = Session(metered.store, begin(metered.store))
    with metered.record() as moved:
        session.get("a")
        session.end()
    assert moved == {"ended logout": 1, "store_seconds read": 1, "store_seconds delete": 1}


def test_sessions_ended_by_a_user(metered: Metered) -> None:
    ids = [begin(metered.store) for _ in range(5)]
    begin(metered.store, "bob")
    session = Session(metered.store, ids[0])
    other = Session(metered.store, ids[1]).handle or ""
    with metered.record() as moved:
        assert session.end_session(other)
        assert not session.end_session(other)
    assert moved == {"ended user": 1, "store_seconds read": 1, "store_seconds end_user": 2}
    with metered.record() as moved:
        session.end_others()
        session.sessions()
    assert moved == {"ended others": 3, "store_seconds end_user": 1, "store_seconds list": 1}
    begin(metered.store)
    with metered.record() as moved:
        session.end_all()
    assert moved == {"ended all": 2, "store_seconds end_user": 1}


def test_sessions_of_a_removed_user(metered: Metered) -> None:
    log_in(metered.client)
    begin(metered.store)
    metered.app.extensions["users"]._hashes.pop(USER)
    with metered.record() as moved:
        assert metered.client.get("/api/session").status_code == 401
    steps = {"store_seconds read": 1, "store_seconds end_user": 1}
    assert moved == {"requests found": 1, "ended account_removed": 2} | steps


def test_sessions_ended_by_an_operator(metered: Metered) -> None:
    ids = [begin(metered.store) for _ in range(3)]
    begin(metered.store, "bob")
    run = metered.app.test_cli_runner().invoke
    handle = Session(metered.store, ids[0]).handle
    for arguments, number in ((["end", handle], 1), (["end", handle], 0), (["end-user", USER], 2), (["end-all"], 1)):
        with metered.record() as moved:
            run(args=["sessions", *arguments], input="y\n")
        assert moved.get("ended admin", 0) == number, arguments


def test_an_expired_session_is_an_unknown_id(metered: Metered, redis: RedisServer) -> None:
    log_in(metered.client)
    for key in redis.session_keys():
        redis.admin.pexpire(key, 0)
    with metered.record() as moved:
        metered.client.get("/api/session")
    assert moved == {"requests none": 1, "unknown_ids": 1, "store_seconds read": 1}


@pytest.mark.parametrize("cookie", ["x", make_id() + "x", "../" + make_id()[3:]], ids=["short", "long", "path"])
def test_an_invalid_id_is_rejected(metered: Metered, cookie: str) -> None:
    metered.client.set_cookie("session", cookie)
    with metered.record() as moved:
        metered.client.get("/")
        metered.client.get("/healthz")
    assert moved == {"requests none": 1, "rejected_ids": 2}


def _foreign(admin: Redis, key: str) -> None:
    admin.set(key, "x", ex=100)


@pytest.mark.parametrize("spoil", [lambda admin, key: admin.hset(key, "s:note", "{"), _foreign])
def test_an_unreadable_session_ends_once(
    metered: Metered, redis: RedisServer, spoil: Callable[[Redis, str], object]
) -> None:
    log_in(metered.client)
    (key,) = redis.session_keys()
    spoil(redis.admin, key)
    with metered.record() as moved:
        metered.client.get("/api/session")
    steps = {"store_seconds read": 1, "store_seconds delete": 1}
    assert moved == {"requests none": 1, "ended unreadable": 1} | steps


@pytest.mark.parametrize("write", [lambda each: each.update(a=2), lambda each: each.increment("n")])
def test_a_write_to_a_session_that_ended_meanwhile(metered: Metered, write: Callable[[Session], object]) -> None:
    one, other = (Session(metered.store, begin(metered.store)) for _ in range(2))
    one.get("a"), other.get("a")
    other.end_all()
    with metered.record() as moved, pytest.raises(SessionEnded):
        write(one)
        one.save()
    step = "increment" if "store_seconds increment" in moved else "update"
    # the read: whether it was a logout or a login elsewhere
    assert moved == {"conflicts": 1, "store_seconds read": 1, f"store_seconds {step}": 1}


def test_an_unreachable_store_and_the_breaker(redis: RedisServer) -> None:
    class Nowhere:
        port = free_port()

    metered = Metered(Nowhere)
    metered.client.set_cookie("session", make_id())
    with metered.record() as moved:
        for _ in range(5):
            assert metered.client.get("/api/session").status_code == 503
    counted = {"store_errors connection": 3, "store_refusals": 2, "store_seconds read": 3}
    assert moved == {"requests unavailable": 5} | counted


def test_a_store_that_does_not_answer(own_redis: RedisServer) -> None:
    metered = Metered(own_redis)
    session_id = begin(metered.store)
    own_redis.pause()
    with metered.record() as moved, pytest.raises(SessionStoreError):
        metered.store.read(session_id)
    own_redis.resume()
    assert moved == {"store_errors timeout": 1, "store_seconds read": 1}
    seconds = metered.registry.get_sample_value("anynode_sessions_store_seconds_sum", {"step": "read"})
    assert seconds is not None and 0.3 <= seconds < 1, "the unit is seconds, and failed steps are timed too"


def test_a_store_that_answers_with_an_error(own_redis: RedisServer) -> None:
    metered = Metered(own_redis)
    own_redis.admin.execute_command("ACL", "SETUSER", "app", "-evalsha")
    with metered.record() as moved, pytest.raises(SessionStoreError):
        metered.store.read(make_id())
    assert moved == {"store_errors error_reply": 1, "store_seconds read": 1}


def test_a_session_of_a_newer_format(metered: Metered, redis: RedisServer) -> None:
    session_id = begin(metered.store)
    (key,) = redis.session_keys()
    redis.admin.hset(key, "m:format", "2")
    with metered.record() as moved, pytest.raises(SessionStoreError):
        metered.store.read(session_id)
    assert moved == {"store_errors newer_format": 1, "store_seconds read": 1}


def test_every_series_exists_from_the_start(metered: Metered) -> None:
    """rate() ignores the first value of a series."""
    fresh = metered.counts()
    assert set(fresh.values()) == {0}
    log_in(metered.client)
    metered.client.get("/api/session")
    metered.client.post("/api/counter", json={})
    metered.client.post("/api/logout", json={})
    assert metered.counts().keys() == fresh.keys()


def test_a_scrape_contains_no_personal_data(metered: Metered) -> None:
    log_in(metered.client)
    metered.client.get("/api/session")
    session_id = session_cookie(metered.client) or ""
    handle = Session(metered.store, session_id).handle or ""
    metered.client.delete("/api/sessions", json={"password": PASSWORD})
    metered.client.post("/api/logout", json={})
    metered.client.set_cookie("session", "forged-" + session_id)
    metered.client.get("/")
    text = metered.scrape()
    assert 'anynode_sessions_ended_total{cause="logout"} 1.0' in text
    for secret in (f'"{USER}"', session_id, session_id[:10], handle, digest(session_id), index_name(USER), "127.0.0.1"):
        assert secret not in text
    assert set(re.findall(r'(\w+)="', text)) == {"session", "cause", "kind", "step", "le"}


def test_the_session_layer_works_without_prometheus_client() -> None:
    program = "import sys; sys.modules['prometheus_client'] = None; import flask_shared_session"
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})
