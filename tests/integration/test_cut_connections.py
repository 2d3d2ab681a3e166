"""What was asked and never answered: it happened once at most, and nobody is taken for somebody else."""

from functools import partial
from itertools import count
from statistics import median

import pytest
from lib.demo_app import USER, assert_honest, log_in, make_app, timed, visit, when_well


def cuts(wire, kind, call):
    """Cuts off the requests or replies of `call` after 0, 1, 2, ... bytes, until it gets through; yields each time."""
    seconds = []
    for after in count():
        wire.cut(kind, after)
        response, took = timed(call)
        if not wire.has_cut():
            break
        assert_honest(response)
        seconds.append(took)
        yield
    assert response.status_code == 200
    assert after > 10, "as many bytes were there to cut"
    assert median(seconds) < 1, "not each of so many: a busy computer is slow at times"
    assert max(seconds) < 10, "none waited for the end of an answer"


@pytest.mark.parametrize("kind", ["request", "reply"])
def test_a_connection_that_ends_at_any_byte_counts_nothing_twice(wire, kind, unhurried):
    visitor = visit(wire.port)
    counter = visitor.post("/api/counter", json={}).json["counter"]  # and the script is known
    for _ in cuts(wire, kind, lambda: visitor.post("/api/counter", json={})):
        now = visitor.get("/api/session").json["counter"]
        assert now - counter in (0, kind == "reply")
        counter = now


@pytest.mark.parametrize("kind", ["request", "reply"])
def test_a_login_that_ends_at_any_byte_logs_nobody_in_and_happens_once_at_most(redis, wire, kind, unhurried):
    visitor = visit(wire.port)
    stranger = visitor.application.test_client()
    before = len(redis.session_keys())
    for _ in cuts(wire, kind, lambda: log_in(stranger, "bob")):
        assert stranger.get("/api/session").status_code == 401
        assert visitor.get("/api/session").json["user"] == USER
        now = len(redis.session_keys())
        assert now - before in (0, kind == "reply")
        before = now


def test_a_late_reply_is_not_taken_for_the_next_one(wire):
    app = make_app(wire.port)
    visitors = {name: app.test_client() for name in ("ada", "bob")}
    for name, visitor in visitors.items():
        when_well(partial(log_in, visitor, name))
    for late, other in (("ada", "bob"), ("bob", "ada")):
        wire.delay = 0.4
        assert_honest(*timed(partial(visitors[late].get, "/api/session")))
        wire.delay = 0
        assert when_well(partial(visitors[other].get, "/api/session")).json["user"] == other
