"""The Redis commands and the Redis values of a session."""

import hashlib
import json
import logging
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask_shared_session import RedisStore, Session
from flask_shared_session.ids import make_id
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from lib.demo_app import redis_store
from lib.redis_server import PREFIX, RedisServer
from redis import Redis
from redis.crc import key_slot

pytestmark = pytest.mark.every_server


def begin(store: RedisStore, **values: Any) -> str:
    session = Session(store, None)
    session.update(values)
    session.save()
    assert session.new_id
    return session.new_id


@pytest.fixture
def store(redis: RedisServer) -> RedisStore:
    store = redis_store(redis)
    # load the scripts, so that the tests count the commands of later requests
    session = Session(store, begin(store, a=1))
    session.increment("n")
    session["b"] = 1
    session.log_in("ada")
    session.save()
    session.sessions()
    session.end_others()
    session.end()
    return store


def test_redis_is_not_queried_until_the_session_is_used(redis: RedisServer, store: RedisStore) -> None:
    session_id = begin(store, a=1)
    with redis.monitor() as seen:
        Session(store, session_id).save()
        dict(Session(store, None))
    assert seen.sent == []


def test_a_fresh_read_is_a_single_command_without_a_write(redis: RedisServer, store: RedisStore) -> None:
    session_id = begin(store, a=1, b=2)
    before = redis.aof_bytes()
    with redis.monitor() as seen:
        session = Session(store, session_id)
        assert session["a"] + session["b"] == 3
        session.save()
    assert seen.sent == ["EVALSHA"]
    assert "PEXPIRE" not in seen.inside
    for _ in range(50):
        dict(Session(store, session_id))
    assert redis.aof_bytes() == before
    Session(store, session_id).increment("a")
    assert redis.aof_bytes() > before, "control: a write changes the file"


def test_a_stale_read_extends_the_expiry(redis: RedisServer, store: RedisStore) -> None:
    session_id = begin(store, a=1)
    (key,) = redis.session_keys()
    redis.admin.pexpire(key, 85_000)
    with redis.monitor() as seen:
        dict(Session(store, session_id))
    assert seen.sent == ["EVALSHA"]
    assert seen.inside.count("PEXPIRE") == 1
    assert 99_000 < redis.admin.pttl(key) <= 100_000


@pytest.mark.parametrize("write", [lambda s: s.update(a=2), lambda s: s.rotate(), lambda s: s.increment("a")])
def test_a_write_extends_the_expiry_long_after_the_read(
    redis: RedisServer, store: RedisStore, write: Callable[[Session], object]
) -> None:
    session = Session(store, begin(store, a=1))
    assert session["a"] == 1
    (key,) = redis.session_keys()
    redis.admin.pexpire(key, 5000)
    write(session)
    session.save()
    (key,) = redis.session_keys()
    assert 99_000 < redis.admin.pttl(key) <= 100_000


def test_the_expiry_never_exceeds_the_lifetime(redis: RedisServer) -> None:
    store = redis_store(redis, idle=100, lifetime=50)
    session_id = begin(store, a=1)
    (key,) = redis.session_keys()
    assert 49_000 < redis.admin.pttl(key) <= 50_000
    redis.admin.persist(key)
    dict(Session(store, session_id))
    assert 49_000 < redis.admin.pttl(key) <= 50_000


@pytest.mark.parametrize(
    ("change", "commands"),
    [
        (lambda s: s.update(a=1), ["EVALSHA"]),
        (lambda s: s.update(a=2), ["EVALSHA", "EVALSHA"]),
        (lambda s: s.rotate(), ["EVALSHA", "EVALSHA"]),
        (lambda s: s.increment("a"), ["EVALSHA", "EVALSHA"]),
        (lambda s: s.end(), ["EVALSHA"]),
    ],
)
def test_the_commands_of_a_change(
    redis: RedisServer, store: RedisStore, change: Callable[[Session], object], commands: list[str]
) -> None:
    for _ in range(2):  # the first time also loads the scripts
        session_id = begin(store, a=1)
        with redis.monitor() as seen:
            session = Session(store, session_id)
            change(session)
            session.save()
    assert seen.sent == commands


def test_a_write_updates_only_changed_fields_and_the_version(redis: RedisServer, store: RedisStore) -> None:
    session_id = begin(store, a=1, b=2)
    (key,) = redis.session_keys()
    assert redis.admin.hget(key, "m:version") == "1"
    session = Session(store, session_id)
    session["b"] = 3
    redis.admin.hset(key, "s:a", "9")
    session.save()
    assert redis.admin.hget(key, "m:version") == "2"
    assert dict(Session(store, session_id)) == {"a": 9, "b": 3}


def test_the_id_is_not_in_redis(redis: RedisServer, store: RedisStore) -> None:
    session_id = begin(store, a=1)
    (key,) = redis.session_keys()
    assert key == f"{PREFIX}session:{{{session_id[:2]}}}{hashlib.sha256(session_id.encode()).hexdigest()}"
    assert session_id not in key + json.dumps(redis.admin.hgetall(key))


def test_old_and_new_key_share_a_cluster_slot(redis: RedisServer, store: RedisStore) -> None:
    session = Session(store, begin(store, a=1))
    (old,) = redis.session_keys()
    session.rotate()
    session.save()
    (new,) = redis.session_keys()
    assert old != new
    assert key_slot(old.encode()) == key_slot(new.encode())


def test_scripts_lost_by_redis_are_loaded_again(redis: RedisServer, store: RedisStore) -> None:
    session_id = begin(store, a=1)
    redis.admin.script_flush()
    session = Session(store, session_id)
    session.increment("a")
    session["b"] = 1
    session.save()
    assert dict(Session(store, session_id)) == {"a": 2, "b": 1}


class _Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (pytest.fail, ("a pickle was executed",))


def _text(data: bytes) -> Callable[[Redis, str], object]:
    return lambda admin, key: (admin.delete(key), admin.set(key, data))


def _field(name: str | bytes, data: str | bytes) -> Callable[[Redis, Any], object]:
    return lambda admin, key: admin.hset(key, name, data)


@pytest.mark.parametrize(
    "spoil",
    [
        _text(b"{}"),
        _text(pickle.dumps(_Bomb())),
        lambda admin, key: (admin.delete(key), admin.rpush(key, "x")),
        lambda admin, key: (admin.delete(key), admin.hset(key, "user", "eve")),
        lambda admin, key: admin.hdel(key, "m:expires"),
        _field("m:format", "0"),
        _field("m:created", "soon"),
        _field("m:expires", "1.5"),
        _field("m:expires", "nan"),
        _field("m:expires", ""),
        _field("s:a", '{"trunc'),
        _field("s:a", "NaN"),
        _field("s:a", b"\xff\xfe"),
        _field("s:a", "[" * 100_000),
        _field("s:a", pickle.dumps(_Bomb())),
        _field(b"s:\xff", "1"),
    ],
)
def test_an_unreadable_session_is_dropped(
    redis: RedisServer, store: RedisStore, spoil: Callable[[Redis, str], object], caplog: pytest.LogCaptureFixture
) -> None:
    session_id = begin(store, a=1)
    (key,) = redis.session_keys()
    spoil(redis.admin, key)
    with caplog.at_level(logging.WARNING):
        session = Session(store, session_id)
        assert dict(session) == {}
    assert redis.session_keys() == []
    assert hashlib.sha256(session_id.encode()).hexdigest() in caplog.text
    assert session_id not in caplog.text
    session["b"] = 2
    session.save()
    assert session.new_id != session_id
    assert dict(Session(store, session.new_id)) == {"b": 2}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(st.sampled_from(["m:expires", "m:created", "m:format", "s:a"]), st.binary(max_size=20)))
def test_no_planted_value_breaks_a_read(redis: RedisServer, store: RedisStore, fields: Any) -> None:
    # A number is the format of a newer release: see test_formats.py.
    assume(not re.match(rb"\d", fields.get("m:format", b"")))
    session_id = begin(store, a=1)
    key = store._key(session_id)
    for name, data in fields.items():
        redis.admin.hset(key, name, data)
    dict(Session(store, session_id))


def test_a_client_with_decode_responses_is_refused(redis: RedisServer) -> None:
    with pytest.raises(ValueError, match="decode_responses"):
        RedisStore(Redis(port=redis.port, decode_responses=True), prefix="x", idle=1, lifetime=1)


def test_reading_an_unknown_id_is_a_single_command(redis: RedisServer, store: RedisStore) -> None:
    with redis.monitor() as seen:
        assert dict(Session(store, make_id())) == {}
    assert seen.sent == ["EVALSHA"]
    assert redis.session_keys() == []


def test_a_login_costs_the_same_whatever_the_number_of_the_users_sessions(redis: RedisServer) -> None:
    """Unless the limit is reached. Sessions whose lifetime has ended leave the index meanwhile."""
    store = redis_store(redis, per_user=1000)
    commands = []
    for number in range(60):
        session = Session(store, None)
        session.log_in("ada")
        with redis.monitor() as seen:
            session.save()
        if number in (10, 59):
            commands.append(seen.inside)
    assert commands[0] == commands[1]
    (index,) = redis.admin.keys(f"{PREFIX}user:*")
    redis.admin.zadd(index, {"0" * 64: 1000})  # its lifetime ended in 1970
    session = Session(store, None)
    session.log_in("ada")
    session.save()
    assert redis.admin.zscore(index, "0" * 64) is None
    assert len(store.sessions_of("ada")) == 61


def test_an_evicted_index_is_restored_by_the_next_read_that_extends_the_session(redis: RedisServer) -> None:
    """A Redis that evicts keys may drop the index first: the session could no longer be listed and ended."""
    store = redis_store(redis)
    session = Session(store, None)
    session.log_in("ada")
    session.save()
    redis.admin.delete(*redis.admin.keys(f"{PREFIX}user:*"))
    (key,) = redis.session_keys()
    redis.admin.pexpire(key, 1000)
    assert store.sessions_of("ada") == []
    assert Session(store, session.new_id).user == "ada"
    assert len(store.sessions_of("ada")) == 1
    assert redis.keys_without_expiry() == []


@pytest.mark.parametrize("step", [-3600_000, 3600_000])
def test_a_step_of_the_clock_is_healed_by_the_next_read(redis: RedisServer, step: int) -> None:
    """As if Redis' clock had stepped meanwhile: time of last use and expiry are an hour off."""
    store = redis_store(redis)
    session_id = begin(store, a=1)
    (key,) = redis.session_keys()
    life = redis.admin.pttl(key)
    redis.admin.hincrby(key, "m:seen", step)
    redis.admin.pexpire(key, max(1000, life + step))
    assert Session(store, session_id)["a"] == 1
    seconds, microseconds = redis.admin.time()
    assert abs(int(redis.admin.hget(key, "m:seen")) - seconds * 1000 - microseconds // 1000) < 5000
    assert abs(redis.admin.pttl(key) - life) < 5000


@pytest.mark.parametrize("text", ["1e999", "-1e999", "[1e999]", "1" * 400 + ".0", "[" * 100_000])
def test_a_value_that_this_layer_can_not_have_written_ends_the_session(redis: RedisServer, text: str) -> None:
    store = redis_store(redis)
    session_id = begin(store, a=1)
    (key,) = redis.session_keys()
    redis.admin.hset(key, "s:a", text)
    assert Session(store, session_id).get("a") is None
    assert redis.session_keys() == []
