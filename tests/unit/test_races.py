"""Two requests at once in two processes, on one real Redis: each race 200 times, without one loss."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
from anynode.sessions import Session, SessionEnded
from unit.helpers import redis_store

ROUNDS = 200
_fork = multiprocessing.get_context("fork")
_both_have_read = _fork.Barrier(2)


class _Process:
    """What each of the two processes has of its own."""

    store = None


def _connect(server):
    _Process.store = redis_store(server)


def _run(session_id, change):
    """One request: its session is read before the other request writes. Returns its new id, or "ended"."""
    session = Session(_Process.store, session_id)
    dict(session)
    _both_have_read.wait(10)
    try:
        change(session)
        session.save()
    except SessionEnded:
        return "ended"
    return session.new_id


# What a request may do; at the top level, since it is sent to another process by name


def read_only(session):
    pass


def set_a(session):
    session["a"] = 1


def set_b(session):
    session["b"] = 1


def append(session):
    session["list"].append(1)


def rotate(session):
    session.rotate()


def end(session):
    session.end()


def end_all(session):
    session.end_all()


def log_in_again(session):
    session.log_in("ada")


def add_one(session):
    for _ in range(3):
        session.increment("n")


def add_one_and_write(session):
    session["b"] = 1
    add_one(session)


@pytest.fixture(scope="module")
def pool(shared_redis):
    with ProcessPoolExecutor(2, mp_context=_fork, initializer=_connect, initargs=(shared_redis,)) as pool:
        yield pool


@pytest.fixture
def race(redis, pool):
    """Yields (store, old id, what one returned, what the other returned) for each round."""
    store = redis_store(redis)

    def rounds(one, other):
        for _ in range(ROUNDS):
            session = Session(store, None)
            session.update(a=0, b=0, n=0, list=[])
            session.log_in("ada")
            session.save()
            futures = [pool.submit(_run, session.new_id, change) for change in (one, other)]
            yield store, session.new_id, *(each.result(20) for each in futures)
            store.end_sessions("ada")
            assert redis.session_keys() == []

    return rounds


def test_different_keys_are_both_kept(race):
    for store, old, *_ in race(set_a, set_b):
        session = Session(store, old)
        assert (session["a"], session["b"]) == (1, 1)


@pytest.mark.parametrize("change", [set_a, append])
def test_a_read_never_erases_a_write(race, change):
    for store, old, *_ in race(read_only, change):
        session = Session(store, old)
        assert (session["a"], session["list"]) in ((1, []), (0, [1]))


@pytest.mark.parametrize("end", [end, end_all])
@pytest.mark.parametrize("other", [read_only, set_a, append, rotate, add_one, end])
def test_an_ended_session_never_comes_back(race, redis, end, other):
    for store, old, _, new in race(end, other):
        assert store.read(old) is None
        assert new in (None, "ended") or store.read(new) is None
        assert redis.session_keys() == []
        assert store.sessions_of("ada") == []


def test_a_rotated_id_never_comes_back_and_what_was_written_is_not_lost(race):
    for store, old, new, written in race(rotate, set_a):
        assert store.read(old) is None
        assert Session(store, new)["a"] == (0 if written == "ended" else 1)
        assert len(store.sessions_of("ada")) == 1


def test_of_two_rotations_one_wins(race):
    for store, old, *new in race(rotate, rotate):
        assert store.read(old) is None
        assert sorted(each == "ended" for each in new) == [False, True]
        assert len(store.sessions_of("ada")) == 1


def test_two_logins_with_one_old_cookie_do_not_share_a_session(race):
    for store, old, one, other in race(log_in_again, log_in_again):
        assert len({old, one, other}) == 3
        assert store.read(old) is None
        assert len(store.sessions_of("ada")) == 2


@pytest.mark.parametrize("other", [add_one, add_one_and_write])
def test_no_increment_is_lost(race, other):
    for store, old, *_ in race(add_one, other):
        assert Session(store, old)["n"] == 6
