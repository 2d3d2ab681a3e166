"""Interrupted connections to Redis: a write happens at most once, and sessions are never mixed up."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from statistics import median

import pytest
from lib.demo_app import USER, assert_unavailable, log_in, logged_in_client, make_app, retry_503, timed
from lib.fault_proxy import FaultProxy
from lib.redis_server import RedisServer
from werkzeug.test import TestResponse


def interruptions(fault_proxy: FaultProxy, kind: str, call: Callable[[], TestResponse]) -> Iterator[None]:
    """Interrupts the requests or replies of `call` after 0, 1, 2, ... bytes until it succeeds; yields each time."""
    seconds = []
    for after in count():
        fault_proxy.interrupt(kind, after)
        response, took = timed(call)
        if not fault_proxy.has_interrupted:
            break
        assert_unavailable(response)
        seconds.append(took)
        yield
    assert response.status_code == 200
    assert after > 10, "number of bytes"
    assert median(seconds) < 1, "the median, since a busy host is sometimes slow"
    assert max(seconds) < 10, "no request waited for the rest of a reply"


@pytest.mark.parametrize("kind", ["request", "reply"])
def test_a_write_interrupted_at_any_byte_is_applied_at_most_once(
    fault_proxy: FaultProxy, kind: str, long_timeouts: None
) -> None:
    client = logged_in_client(fault_proxy.port)
    counter = client.post("/api/counter", json={}).get_json()["counter"]  # loads the script, too
    for _ in interruptions(fault_proxy, kind, lambda: client.post("/api/counter", json={})):
        now = client.get("/api/session").get_json()["counter"]
        assert now - counter in (0, kind == "reply")
        counter = now


@pytest.mark.parametrize("kind", ["request", "reply"])
def test_a_login_interrupted_at_any_byte_gives_no_access_and_happens_at_most_once(
    redis: RedisServer, fault_proxy: FaultProxy, kind: str, long_timeouts: None
) -> None:
    client = logged_in_client(fault_proxy.port)
    other = client.application.test_client()
    before = len(redis.session_keys())
    for _ in interruptions(fault_proxy, kind, lambda: log_in(other, "bob")):
        assert other.get("/api/session").status_code == 401
        assert client.get("/api/session").get_json()["user"] == USER
        now = len(redis.session_keys())
        assert now - before in (0, kind == "reply")
        before = now


def test_a_late_reply_is_not_used_for_the_next_request(fault_proxy: FaultProxy) -> None:
    app = make_app(fault_proxy.port)
    clients = {name: app.test_client() for name in (USER, "bob")}
    for name, client in clients.items():
        retry_503(partial(log_in, client, name))
    for late, other in ((USER, "bob"), ("bob", USER)):
        fault_proxy.delay = 0.4
        assert_unavailable(*timed(partial(clients[late].get, "/api/session")))
        fault_proxy.delay = 0
        assert retry_503(partial(clients[other].get, "/api/session")).get_json()["user"] == other
