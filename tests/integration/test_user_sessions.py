"""Sessions of users: users and operators can list and end them."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask_shared_session import RedisStore, Session, SessionEnded
from flask_shared_session.ids import index_name, is_handle, make_handle
from flask_shared_session.redis_client import make_client
from flask_shared_session.store import Store
from lib.demo_app import redis_store
from lib.redis_server import PREFIX, REDIS_PASSWORD, RedisServer
from redis.crc import key_slot

pytestmark = pytest.mark.every_server


def log_in(store: Store, user: str = "ada", old: str | None = None, **about: str) -> str:
    """The id of a new session of this user."""
    session = Session(store, old)
    session.clear()
    session["a"] = 1
    session.log_in(user, **about)
    session.save()
    assert session.new_id
    return session.new_id


def read(store: Store, session_id: str | None) -> dict[str, Any]:
    return dict(Session(store, session_id))


def handles(store: Store, user: str = "ada") -> list[str]:
    return [each.handle for each in store.sessions_of(user)]


def test_a_login_is_listed_with_times_address_agent_and_node(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    session_id = log_in(store, address="203.0.113.9", agent="Böwser/1 \U0001f600", node="app1")
    (found,) = store.sessions_of("ada")
    assert before < found.created <= found.seen <= datetime.now(UTC) + timedelta(seconds=1)
    assert found[3:] == ("203.0.113.9", "Böwser/1 \U0001f600", "app1")
    session = Session(store, session_id)
    assert (session.user, session.handle, session.created) == ("ada", found.handle, found.created)
    assert [each._replace(seen=found.seen) for each in session.sessions()] == [found]


def test_a_handle_is_neither_the_id_nor_its_digest(store: Store) -> None:
    session_id = log_in(store)
    (handle,) = handles(store)
    assert is_handle(handle)
    assert handle[:22] not in session_id
    assert read(store, handle) == {}


def test_sessions_of_a_user_are_listed_oldest_first(store: Store) -> None:
    ids = []
    for _ in range(3):
        ids.append(log_in(store))
        log_in(store, "bob")
        time.sleep(0.002)
    assert handles(store) == [Session(store, each).handle for each in ids]
    assert store.sessions_of("eve") == []


def test_a_session_without_a_login_has_no_user(store: Store) -> None:
    session = Session(store, None)
    session["a"] = 1
    session.save()
    session = Session(store, session.new_id)
    assert (session.user, session.handle, session.sessions()) == (None, None, [])
    assert (session.end_session(make_handle("ada")), session.end_others(), session.end_all()) == (False, 0, 0)
    assert session["a"] == 1


def test_a_login_before_its_save_already_counts_in_this_request(store: Store) -> None:
    other = log_in(store)
    session = Session(store, None)
    session.log_in("ada")
    assert session.user == "ada"
    assert session.handle not in handles(store)
    assert session.end_others() == 1
    assert handles(store) == [session.handle]
    assert read(store, other) == {}


def test_a_login_keeps_earlier_values_under_a_new_id(store: Store) -> None:
    session = Session(store, None)
    session["cart"] = [1]
    session.save()
    old = session.new_id
    session = Session(store, old)
    session.log_in("ada")
    session.save()
    assert read(store, session.new_id) == {"cart": [1]}
    assert Session(store, session.new_id).user == "ada"
    assert read(store, old) == {}


def test_a_login_as_another_user_does_not_keep_the_values(store: Store) -> None:
    old = log_in(store)
    session = Session(store, old)
    session.log_in("bob")
    session["b"] = 2
    session.save()
    assert read(store, session.new_id) == {"b": 2}
    assert read(store, old) == {}
    assert (handles(store), handles(store, "bob")) == ([], [session.handle])


def test_two_logins_with_the_same_old_cookie_do_not_share_a_session(store: Store) -> None:
    old = log_in(store)
    one, other = Session(store, old), Session(store, old)
    for session in (one, other):
        session.log_in("ada")
    one.save()
    other.save()
    assert len({one.new_id, other.new_id, old}) == 3
    assert set(handles(store)) == {one.handle, other.handle}


def test_clear_ends_the_login_even_with_new_values(store: Store) -> None:
    old = log_in(store)
    session = Session(store, old)
    session.clear()
    assert session.user is None
    session["flash"] = "bye"
    session.save()
    assert session.new_id not in (None, old)
    assert Session(store, session.new_id).user is None
    assert read(store, session.new_id) == {"flash": "bye"}
    assert read(store, old) == {}
    assert handles(store) == []


def test_a_rotation_keeps_user_and_handle(store: Store) -> None:
    old = log_in(store, node="app1")
    session = Session(store, old)
    before = session.sessions()
    began = before[0].seen
    session.rotate()
    session.save()
    assert session.user == "ada"
    after = Session(store, session.new_id).sessions()
    assert [each._replace(seen=began) for each in after] == [each._replace(seen=began) for each in before]
    assert store.end_sessions("ada") == 1
    assert read(store, session.new_id) == {}


def test_a_logout_ends_a_session_that_was_rotated_meanwhile(store: Store) -> None:
    old = log_in(store)
    logout, other = Session(store, old), Session(store, old)
    assert logout["a"] == 1
    other.rotate()
    other.save()
    logout.end()
    assert read(store, other.new_id) == {}
    assert handles(store) == []


def test_a_session_can_be_ended_by_its_handle(store: Store) -> None:
    kept, ended = log_in(store), log_in(store)
    session = Session(store, kept)
    concurrent = Session(store, ended)
    concurrent["a"] = 2
    assert concurrent.handle
    assert session.end_session(concurrent.handle) is True
    assert session.end_session(concurrent.handle) is False
    with pytest.raises(SessionEnded):
        concurrent.save()
    assert read(store, ended) == {}
    assert handles(store) == [session.handle]


def test_the_current_session_can_be_ended_by_its_handle(store: Store) -> None:
    session = Session(store, log_in(store))
    assert session.handle
    assert session.end_session(session.handle) is True
    assert session.is_cookie_dead
    assert handles(store) == []


@pytest.mark.parametrize("handle", ["", "x", "A" * 29, "A" * 31, "é" * 30, "../" * 10, "A" * 30])
def test_an_invalid_handle_ends_nothing(store: Store, handle: str) -> None:
    session = Session(store, log_in(store))
    assert session.end_session(handle) is False
    assert store.end_session(handle) is False
    assert handles(store) == [session.handle]


def test_an_operator_can_end_any_session_and_a_user_only_own_sessions(store: Store) -> None:
    own, others = Session(store, log_in(store)), Session(store, log_in(store, "bob"))
    assert others.handle
    assert own.end_session(others.handle) is False
    assert handles(store, "bob") == [others.handle]
    assert store.end_session(others.handle) is True
    assert handles(store, "bob") == []


def test_all_other_sessions_can_be_ended(store: Store) -> None:
    ids = [log_in(store) for _ in range(4)]
    bob = log_in(store, "bob")
    session = Session(store, ids[1])
    assert session.end_others() == 3
    assert [bool(read(store, each)) for each in ids] == [False, True, False, False]
    assert read(store, bob)


def test_all_sessions_of_a_user_can_be_ended(store: Store) -> None:
    ids = [log_in(store) for _ in range(3)]
    session = Session(store, ids[0])
    assert session.end_all() == 3
    assert session.is_cookie_dead
    assert [read(store, each) for each in ids] == [{}, {}, {}]
    assert handles(store) == []


def test_all_sessions_can_be_counted_and_ended(store: Store) -> None:
    ids = [log_in(store), log_in(store), log_in(store, "bob")]
    session = Session(store, None)
    session["a"] = 1
    session.save()
    assert store.count() == (4, 3, 2)
    assert store.end_everything() == 4
    assert store.count() == (0, 0, 0)
    assert [read(store, each) for each in [*ids, session.new_id]] == [{}] * 4
    assert handles(store) == []


def test_a_login_beyond_the_limit_ends_the_oldest_session(store: Store) -> None:
    ids = []
    for _ in range(12):
        ids.append(log_in(store))
        time.sleep(0.002)
    assert [bool(read(store, each)) for each in ids] == [False] * 2 + [True] * 10


def test_logging_in_again_does_not_count_twice(store: Store) -> None:
    ids = [log_in(store) for _ in range(10)]
    log_in(store, old=ids[5])
    assert [bool(read(store, each)) for each in ids] == [True] * 5 + [False] + [True] * 4


def test_expired_sessions_are_not_listed_and_do_not_count(make_store: Callable[..., Store]) -> None:
    store = make_store(idle=0.3)
    for _ in range(10):
        log_in(store)
    time.sleep(0.2)
    store.end_sessions("bob")  # requests of another user change nothing
    kept = log_in(store)
    time.sleep(0.2)
    assert handles(store) == [Session(store, kept).handle]
    ids = [kept, *(log_in(store) for _ in range(9))]
    assert all(read(store, each) for each in ids)


def test_last_use_is_updated(make_store: Callable[..., Store]) -> None:
    store = make_store(idle=1)
    session_id = log_in(store)
    time.sleep(0.2)
    read(store, session_id)
    (found,) = store.sessions_of("ada")
    assert 0.15 < (found.seen - found.created).total_seconds() < 0.5


# The Redis values and commands


@pytest.fixture
def index(redis: RedisServer) -> str:
    name = index_name("ada")
    return f"{PREFIX}user:{{{name[:2]}}}{name}"


@pytest.fixture
def redis_sessions(redis: RedisServer) -> RedisStore:
    store = redis_store(redis)
    session = Session(store, log_in(store))  # load the scripts, for the counts
    session.rotate()
    session.sessions()
    session.end_others()
    session.end()
    return store


def test_a_users_keys_share_a_cluster_slot(redis: RedisServer, redis_sessions: RedisStore, index: str) -> None:
    for _ in range(3):
        session = Session(redis_sessions, log_in(redis_sessions))
    session.rotate()
    session.save()
    keys = redis.session_keys()
    assert len(keys) == 3
    assert sorted(redis.admin.zrange(index, 0, -1)) == sorted(each[-64:] for each in keys)
    assert {key_slot(each.encode()) for each in keys} == {key_slot(index.encode())}


def test_the_index_contains_digests_and_expires_with_its_last_session(
    redis: RedisServer, redis_sessions: RedisStore, index: str
) -> None:
    log_in(redis_sessions)
    (key,) = redis.session_keys()
    expires = redis.admin.hget(key, "m:expires")
    assert redis.admin.zrange(index, 0, -1, withscores=True) == [(key[-64:], float(expires))]
    assert 999_000 < redis.admin.pttl(index) <= 1_000_000
    log_in(redis_store(redis, lifetime=500))
    assert 999_000 < redis.admin.pttl(index) <= 1_000_000


@pytest.mark.parametrize("end", [lambda s: s.end(), lambda s: s.end_all(), lambda s: s.log_in("bob")])
def test_the_index_is_deleted_with_its_last_session(
    redis: RedisServer, redis_sessions: RedisStore, index: str, end: Callable[[Session], object]
) -> None:
    session = Session(redis_sessions, log_in(redis_sessions))
    assert redis.admin.exists(index)
    end(session)
    session.save()
    assert not redis.admin.exists(index)


def test_the_newest_login_is_kept_even_if_it_expires_first(redis: RedisServer) -> None:
    old, new = redis_store(redis, per_user=1), redis_store(redis, lifetime=50, per_user=1)
    first, second = log_in(old), log_in(new)
    assert (read(new, first), read(new, second)) == ({}, {"a": 1})


@pytest.mark.parametrize(
    ("step", "inside"),
    [
        (lambda store, session_id: log_in(store), 0),
        (lambda store, session_id: log_in(store, old=session_id), 1),
        (lambda store, session_id: Session(store, session_id).end(), 0),
        (lambda store, session_id: _saved(Session(store, session_id).rotate), 1),
        (lambda store, session_id: Session(store, session_id).sessions(), 1),
        (lambda store, session_id: Session(store, session_id).end_others(), 1),
        (lambda store, session_id: Session(store, session_id).end_all(), 1),
        (lambda store, session_id: store.end_session(Session(store, session_id).handle), 1),
    ],
    ids=["login", "login again", "logout", "rotate", "list", "end others", "end all", "end one"],
)
@pytest.mark.parametrize("count", [1, 10])
def test_each_step_is_a_single_round_trip_after_the_read(
    redis: RedisServer, redis_sessions: RedisStore, step: Callable[[RedisStore, str], object], inside: int, count: int
) -> None:
    """inside: number of preceding reads."""
    ids = [log_in(redis_sessions) for _ in range(count)]
    with redis.monitor() as seen:
        step(redis_sessions, ids[0])
    assert seen.sent == ["EVALSHA"] * (inside + 1)


def _saved(change: Any) -> None:
    change()
    change.__self__.save()


def test_a_fresh_read_of_a_users_session_writes_nothing(redis: RedisServer, redis_sessions: RedisStore) -> None:
    session_id = log_in(redis_sessions)
    before = redis.aof_bytes()
    with redis.monitor() as seen:
        for _ in range(20):
            assert Session(redis_sessions, session_id).user == "ada"
    assert seen.sent == ["EVALSHA"] * 20
    assert redis.aof_bytes() == before


def test_an_index_entry_without_a_session_is_dropped(
    redis: RedisServer, redis_sessions: RedisStore, index: str
) -> None:
    kept = log_in(redis_sessions)
    for number in range(30):
        redis.admin.zadd(index, {f"{number:064x}": 1})
    assert len(redis_sessions.sessions_of("ada")) == 1
    assert redis.admin.zcard(index) == 1
    for number in range(30):
        redis.admin.zadd(index, {f"{number:064x}": 1})
    log_in(redis_sessions)
    assert redis.admin.zcard(index) == 2
    assert read(redis_sessions, kept)


@pytest.mark.parametrize(
    "step",
    [
        lambda store, session_id: log_in(store),
        lambda store, session_id: Session(store, session_id).end(),
        lambda store, session_id: _saved(Session(store, session_id).rotate),
        lambda store, session_id: store.sessions_of("ada"),
        lambda store, session_id: store.end_sessions("ada"),
    ],
)
def test_a_foreign_value_in_place_of_an_index_is_dropped(
    redis: RedisServer, redis_sessions: RedisStore, index: str, step: Callable[[RedisStore, str], object]
) -> None:
    session_id = log_in(redis_sessions)
    redis.admin.delete(index)
    redis.admin.set(index, "x")
    step(redis_sessions, session_id)
    assert redis.admin.type(index) in ("zset", "none")


def test_foreign_values_in_an_index_are_tolerated(redis: RedisServer, redis_sessions: RedisStore, index: str) -> None:
    kept = log_in(redis_sessions)
    for number, fields in enumerate([{"x": "y"}, {"m:handle": "x", "m:created": "soon"}, {"m:handle": "\xff"}, None]):
        digest = f"{number:064x}"
        key = f"{PREFIX}session:{{{kept[:2]}}}{digest}"
        redis.admin.hset(key, mapping=fields) if fields else redis.admin.set(key, "x")
        redis.admin.expire(key, 100)
        redis.admin.zadd(index, {digest: 2})
    assert len(redis_sessions.sessions_of("ada")) == 1
    assert redis_sessions.count().logged_in == 1
    session = Session(redis_sessions, kept)
    assert session.end_session(make_handle("ada")) is False
    session.end_others()
    assert len(redis.session_keys()) == 1
    assert read(redis_sessions, kept)


def test_a_full_redis_refuses_a_login_and_loses_nothing(own_redis: RedisServer) -> None:
    store = redis_store(own_redis)
    ids = [log_in(store) for _ in range(10)]
    own_redis.admin.config_set("maxmemory", 1)
    for old in (None, ids[0]):
        with pytest.raises(Exception, match="503"):
            log_in(store, old=old)
    assert all(store.read(each) for each in ids)
    own_redis.admin.config_set("maxmemory", 0)
    assert len(store.sessions_of("ada")) == 10


def test_an_invalid_handle_never_reaches_redis(redis: RedisServer, redis_sessions: RedisStore) -> None:
    with redis.monitor() as seen:
        for handle in ("", "A" * 29, "}" * 30, "é" * 30):
            redis_sessions.end_session(handle)
    assert seen.sent == []


def test_a_prefix_is_taken_literally_when_keys_are_searched(redis: RedisServer) -> None:
    client = make_client(host="127.0.0.1", port=redis.port, username="admin", password=REDIS_PASSWORD)
    one, other = (RedisStore(client, prefix=each, idle=9, lifetime=9) for each in ("a*[b]\\:", "aX[b]\\:"))
    log_in(one)
    log_in(other)
    assert (one.end_everything(), other.count().sessions) == (1, 1)
