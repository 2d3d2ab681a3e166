"""Older and newer releases with the same Redis, as during a rolling update."""

import pytest
from flask_shared_session import Session, SessionStoreError
from flask_shared_session.redis_store import RedisStore
from lib.demo_app import redis_store
from lib.redis_server import RedisServer

pytestmark = pytest.mark.every_server


@pytest.fixture
def store(redis: RedisServer) -> RedisStore:
    return redis_store(redis)


def begin(store: RedisStore) -> str:
    session = Session(store, None)
    session["a"] = 1
    session.log_in("ada")
    session.save()
    assert session.new_id
    return session.new_id


def test_sessions_of_the_first_release_are_read_and_written(redis: RedisServer, store: RedisStore) -> None:
    session_id = begin(store)
    (key,) = redis.session_keys()
    for name in ("m:seen", "m:user", "m:handle", "m:address", "m:agent", "m:node"):
        redis.admin.hdel(key, name)
    session = Session(store, session_id)
    assert (dict(session), session.user) == ({"a": 1}, None)
    session["b"] = 2
    session.rotate()
    session.save()
    assert dict(Session(store, session.new_id)) == {"a": 1, "b": 2}


def test_fields_of_a_newer_release_are_kept(redis: RedisServer, store: RedisStore) -> None:
    session_id = begin(store)
    (key,) = redis.session_keys()
    added = {"m:format": "1.7", "m:colour": "blue", "z:a": "\x00"}
    redis.admin.hset(key, mapping=added)
    session = Session(store, session_id)
    assert (dict(session), session.user) == ({"a": 1}, "ada")
    del session["a"]
    session.increment("n")
    session.rotate()
    session.save()
    (key,) = redis.session_keys()
    assert added.items() <= redis.admin.hgetall(key).items()
    assert dict(Session(store, session.new_id)) == {"n": 1}


@pytest.mark.parametrize("number", ["2", "2.1", "10"])
def test_a_newer_format_is_neither_read_nor_dropped_nor_a_logout(
    redis: RedisServer, store: RedisStore, number: str
) -> None:
    session_id = begin(store)
    (key,) = redis.session_keys()
    redis.admin.hset(key, "m:format", number)
    before = redis.admin.hgetall(key)
    session = Session(store, session_id)
    with pytest.raises(SessionStoreError):
        session.get("a")
    session.save()
    assert redis.admin.hgetall(key) == before
    Session(store, session_id).end()
    assert redis.session_keys() == []
