"""The circuit breaker, with a simulated clock."""

import pytest
from flask_shared_session.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, pause=1, clock=clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        assert breaker.admits()
        breaker.failed()


def test_calls_are_admitted_until_the_limit_of_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 3)
    assert not breaker.admits()


def test_a_single_probe_is_admitted_after_a_pause(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 0.99
    assert not breaker.admits()
    clock.now += 0.01
    assert [breaker.admits() for _ in range(3)] == [True, False, False]


def test_a_failed_probe_is_followed_by_another_pause(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    assert breaker.admits()
    clock.now += 0.6
    breaker.failed()
    clock.now += 0.99
    assert not breaker.admits()
    clock.now += 0.01
    assert breaker.admits()


def test_a_successful_probe_closes_the_breaker(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    assert breaker.admits()
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.admits()


def test_a_probe_without_a_result_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    for _ in range(3):
        clock.now += 1
        assert [breaker.admits(), breaker.admits()] == [True, False]


def test_opening_and_closing_is_logged_once(breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    fail(breaker, 3)
    breaker.failed()
    breaker.succeeded()
    breaker.succeeded()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
