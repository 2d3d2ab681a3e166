"""The circuit breaker by itself, with a clock of its own."""

import pytest
from anynode.sessions.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker(failures=3, pause=1, clock=clock)


def fail(breaker, times):
    for _ in range(times):
        assert breaker.admits()
        breaker.failed()


def test_it_admits_until_so_many_calls_failed_in_a_row(breaker):
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 3)
    assert not breaker.admits()


def test_after_a_pause_it_admits_one_probe(breaker, clock):
    fail(breaker, 3)
    clock.now += 0.99
    assert not breaker.admits()
    clock.now += 0.01
    assert [breaker.admits() for _ in range(3)] == [True, False, False]


def test_a_probe_that_fails_is_followed_by_another_pause(breaker, clock):
    fail(breaker, 3)
    clock.now += 1
    assert breaker.admits()
    clock.now += 0.6
    breaker.failed()
    clock.now += 0.99
    assert not breaker.admits()
    clock.now += 0.01
    assert breaker.admits()


def test_a_probe_that_succeeds_closes_it(breaker, clock):
    fail(breaker, 3)
    clock.now += 1
    assert breaker.admits()
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.admits()


def test_a_probe_that_is_never_heard_of_is_followed_by_another(breaker, clock):
    fail(breaker, 3)
    for _ in range(3):
        clock.now += 1
        assert [breaker.admits(), breaker.admits()] == [True, False]


def test_opening_and_closing_is_logged_once(breaker, clock, caplog):
    fail(breaker, 3)
    breaker.failed()
    breaker.succeeded()
    breaker.succeeded()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
