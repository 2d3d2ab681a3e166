"""The contract of a session, with any store."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from flask_shared_session import Session, SessionEnded, SessionMoved, SessionTooLarge
from flask_shared_session.ids import is_id, make_id
from flask_shared_session.store import Store

pytestmark = pytest.mark.every_server


def begin(store: Store, **values: Any) -> str:
    """A saved session's id."""
    session = Session(store, None)
    session.update(values)
    session.save()
    assert session.new_id
    return session.new_id


def read(store: Store, session_id: str | None) -> dict[str, Any]:
    return dict(Session(store, session_id))


def test_values_are_kept(store: Store) -> None:
    values = {
        "text": "ä\n\U0001f600 \ud83d",
        "number": 3,
        "part": 1.5,
        "yes": True,
        "none": None,
        "list": [1, {"a": []}],
    }
    assert read(store, begin(store, **values)) == values


def test_an_id_is_new_and_well_formed(store: Store) -> None:
    ids = {begin(store, a=1) for _ in range(20)}
    assert len(ids) == 20
    assert all(is_id(each) and len(each) == 45 for each in ids)


def test_an_empty_session_is_not_stored(store: Store) -> None:
    session = Session(store, None)
    assert not session
    session.rotate()
    session.save()
    assert session.new_id is None


def test_an_unknown_id_is_not_adopted(store: Store) -> None:
    forged = make_id()
    session = Session(store, forged)
    session["a"] = 1
    session.save()
    assert session.new_id not in (None, forged)
    assert read(store, forged) == {}


def test_a_nested_change_is_saved(store: Store) -> None:
    session_id = begin(store, roles=["reader"], deep={"a": {"b": 1}})
    session = Session(store, session_id)
    session["roles"].append("writer")
    session["deep"]["a"]["b"] = 2
    session.save()
    assert read(store, session_id) == {"roles": ["reader", "writer"], "deep": {"a": {"b": 2}}}


def test_deleted_values_are_removed(store: Store) -> None:
    session_id = begin(store, a=1, b=2)
    session = Session(store, session_id)
    del session["a"]
    session.save()
    assert read(store, session_id) == {"b": 2}


def test_concurrent_writes_to_different_keys_are_both_kept(store: Store) -> None:
    session_id = begin(store, a=0, b=0)
    one, other = Session(store, session_id), Session(store, session_id)
    one["a"], other["b"] = 1, 1
    one.save()
    other.save()
    assert read(store, session_id) == {"a": 1, "b": 1}


def test_a_slow_read_does_not_erase_a_write(store: Store) -> None:
    session_id = begin(store, a=0)
    slow = Session(store, session_id)
    assert slow["a"] == 0
    writer = Session(store, session_id)
    writer["a"] = 1
    writer.save()
    slow.save()
    assert read(store, session_id) == {"a": 1}


@pytest.mark.parametrize("write", [lambda s: s.update(b=2), lambda s: s.rotate(), lambda s: s.pop("a")])
def test_an_ended_session_does_not_come_back(store: Store, write: Callable[[Session], object]) -> None:
    session_id = begin(store, a=1)
    concurrent = Session(store, session_id)
    assert concurrent["a"] == 1
    Session(store, session_id).end()
    write(concurrent)
    with pytest.raises(SessionEnded):
        concurrent.save()
    concurrent.save()
    assert dict(concurrent) == {}
    assert concurrent.new_id is None
    assert read(store, session_id) == {}
    concurrent["flash"] = "you were logged out"
    concurrent.save()
    assert concurrent.new_id != session_id
    assert read(store, concurrent.new_id) == {"flash": "you were logged out"}


def test_a_concurrent_read_does_not_restore_an_ended_session(store: Store) -> None:
    session_id = begin(store, a=1)
    concurrent = Session(store, session_id)
    assert concurrent["a"] == 1
    Session(store, session_id).end()
    concurrent.save()
    assert read(store, session_id) == {}


def test_rotate_keeps_values_and_invalidates_the_old_id(store: Store) -> None:
    old = begin(store, a=1)
    session = Session(store, old)
    created = session.created
    session["b"] = 2
    session.rotate()
    session.save()
    assert session.new_id not in (None, old)
    assert read(store, old) == {}
    assert read(store, session.new_id) == {"a": 1, "b": 2}
    assert Session(store, session.new_id).created == created


def test_rotate_keeps_what_another_request_wrote_meanwhile(store: Store) -> None:
    old = begin(store, a=1)
    session = Session(store, old)
    session.rotate()
    Session(store, old).increment("b")
    session.save()
    assert read(store, session.new_id) == {"a": 1, "b": 1}


def test_login_replaces_the_session(store: Store) -> None:
    old = begin(store, leftover=1)
    before = Session(store, old).created
    assert before
    time.sleep(0.002)
    session = Session(store, old)
    session.clear()
    session["user"] = "ada"
    session.rotate()
    session.save()
    assert read(store, old) == {}
    assert read(store, session.new_id) == {"user": "ada"}
    created = Session(store, session.new_id).created
    assert created and created > before


def test_values_after_clear_begin_under_a_new_id(store: Store) -> None:
    """As in an app that logs a user in without log_in(): an id from before the login must not be valid after it."""
    old = begin(store, csrf="known to an attacker")
    session = Session(store, old)
    session.clear()
    session["user_id"] = 7
    session.save()
    assert session.new_id not in (None, old)
    assert store.read(old) is None
    assert read(store, session.new_id) == {"user_id": 7}


def test_a_rotated_id_does_not_come_back(store: Store) -> None:
    old = begin(store, a=1)
    concurrent = Session(store, old)
    concurrent["a"] = 2
    login = Session(store, old)
    login.rotate()
    login.save()
    with pytest.raises(SessionEnded):
        concurrent.save()
    assert not concurrent.is_cookie_dead, "the client may already have the new cookie"
    assert read(store, login.new_id) == {"a": 1}


def test_clear_without_new_values_ends_the_session(store: Store) -> None:
    session_id = begin(store, a=1)
    session = Session(store, session_id)
    session.clear()
    session.save()
    assert session.is_cookie_dead
    assert store.read(session_id) is None


def test_a_session_can_start_again_after_its_end(store: Store) -> None:
    old = begin(store, a=1)
    session = Session(store, old)
    session.end()
    assert dict(session) == {}
    session["b"] = 2
    session.save()
    assert not session.is_cookie_dead
    assert read(store, session.new_id) == {"b": 2}


def test_increment_is_immediate_and_consistent(store: Store) -> None:
    session_id = begin(store, a=1)
    session = Session(store, session_id)
    assert session.increment("n") == 1
    assert Session(store, session_id).increment("n", 5) == 6
    assert session["n"] == 1
    session["a"] = 2
    session.save()
    assert read(store, session_id) == {"a": 2, "n": 6}, "the save must not write the counter again"


def test_concurrent_increments_all_count(store: Store) -> None:
    session_id = begin(store, n=0)
    results = []

    def work() -> None:
        for _ in range(25):
            results.append(Session(store, session_id).increment("n"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(1, 201))


def test_increment_adds_to_what_this_request_set(store: Store) -> None:
    session_id = begin(store, n=1)
    session = Session(store, session_id)
    session["n"] = 10
    assert session.increment("n") == 11
    session.save()
    assert read(store, session_id) == {"n": 11}


def test_a_value_may_return_to_that_before_an_increment(store: Store) -> None:
    session = Session(store, session_id := begin(store, n=4))
    assert session["n"] == 4
    assert session.increment("n") == 5
    session["n"] = 4
    session.save()
    assert read(store, session_id) == {"n": 4}


def test_increment_in_a_new_session(store: Store) -> None:
    session = Session(store, None)
    assert session.increment("n", 2) == 2
    session.save()
    assert read(store, session.new_id) == {"n": 2}


def test_increment_of_an_ended_session_raises(store: Store) -> None:
    session_id = begin(store, n=1)
    session = Session(store, session_id)
    assert session["n"] == 1
    Session(store, session_id).end()
    with pytest.raises(SessionEnded):
        session.increment("n")
    assert dict(session) == {}
    session.save()
    assert store.read(session_id) is None


@pytest.mark.parametrize("value", ["3x", "3", 1.5, None, [1], True])
def test_increment_of_another_type_is_a_type_error(store: Store, value: Any) -> None:
    for session in (Session(store, begin(store, n=value)), Session(store, None)):
        session.setdefault("n", value)
        with pytest.raises(TypeError, match="integer|can't increment"):
            session.increment("n")


@pytest.mark.parametrize(
    ("value", "name"),
    [({1}, "set"), (b"x", "bytes"), ({1: 2}, "int key"), ([object()], "object"), (float("nan"), "float")],
)
def test_an_unsupported_value_is_named(store: Store, value: Any, name: str) -> None:
    session = Session(store, None)
    session["basket"] = value
    with pytest.raises(TypeError, match=f"basket.*{name}"):
        session.save()
    session.save()  # as Flask does for the error response


def test_a_recursive_list_is_named(store: Store) -> None:
    session = Session(store, None)
    loop: list[Any] = []
    session["loop"] = loop
    loop.append(loop)
    with pytest.raises(TypeError, match="loop.*list"):
        session.save()


def test_a_key_must_be_a_string(store: Store) -> None:
    session = Session(store, None)
    session[1] = 2  # type: ignore[index] # the invalid key
    with pytest.raises(TypeError, match="int"):
        session.save()


def test_a_session_expires_unless_it_is_used(make_store: Callable[..., Store]) -> None:
    store = make_store(idle=0.4)
    used, idle = begin(store, a=1), begin(store, a=1)
    for _ in range(5):
        time.sleep(0.12)
        assert read(store, used)
    assert read(store, idle) == {}


def test_the_lifetime_ends_a_used_session(make_store: Callable[..., Store]) -> None:
    store = make_store(idle=0.4, lifetime=0.6)
    session_id = begin(store, a=1)
    started = time.monotonic()
    while time.monotonic() - started < 0.5:
        session = Session(store, session_id)
        session.increment("n")
        assert session["a"] == 1
        time.sleep(0.05)
    time.sleep(0.2)
    assert read(store, session_id) == {}


def test_rotate_does_not_extend_the_lifetime(make_store: Callable[..., Store]) -> None:
    store = make_store(idle=0.4, lifetime=0.5)
    session_id = begin(store, a=1)
    time.sleep(0.3)
    session = Session(store, session_id)
    session.rotate()
    session.save()
    time.sleep(0.3)
    assert read(store, session.new_id) == {}


def test_only_used_values_are_decoded_and_only_changeable_values_are_compared(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cost of a request doesn't grow with the values that it doesn't use."""
    session_id = begin(store, used="a", unused="b", basket=[1], other=[2])
    decoded: list[str] = []
    compared: list[object] = []

    def loads(text: str) -> Any:
        decoded.append(text)
        return json.loads(text)

    def is_same(value: object, text: str) -> bool:
        compared.append(value)
        return json.dumps(value, separators=(",", ":")) == text

    monkeypatch.setattr("flask_shared_session.session.loads", loads)
    monkeypatch.setattr("flask_shared_session.session.is_same", is_same)
    session = Session(store, session_id)
    assert (session["used"], session["basket"]) == ("a", [1])
    assert "unused" in session and len(session) == 4
    session.save()
    assert decoded == ['"a"', "[1]"]
    assert compared == [[1]]
    session["basket"].append(3)
    session.save()
    assert read(store, session_id) == {"used": "a", "unused": "b", "basket": [1, 3], "other": [2]}


# Requests that set out with an id that is gone when they write


@pytest.mark.parametrize("change", [lambda s: s.rotate(), lambda s: s.log_in("ada")], ids=["rotation", "login"])
@pytest.mark.parametrize("reads_before", [True, False])
def test_a_request_with_the_old_id_writes_nothing_and_gets_no_cookie(
    store: Store, change: Callable[[Session], object], reads_before: bool
) -> None:
    """Its cookie would log the user out, and what it wrote would be in a session that no other request has."""
    old = begin(store, a=1)
    late = Session(store, old)
    if reads_before:
        assert late["a"] == 1
    session = Session(store, old)
    change(session)
    session.save()
    late["b"] = 2
    with pytest.raises(SessionMoved) as raised:
        late.save()
    assert raised.value.code == 409
    assert "log in" not in str(raised.value.description)
    assert late.new_id is None and not late.is_cookie_dead
    late["flash"] = "try again"
    with pytest.raises(SessionMoved):
        late.save()
    assert late.new_id is None
    assert read(store, session.new_id) == {"a": 1}
    assert store.count().sessions == 1


def test_a_request_with_the_old_id_may_read(store: Store) -> None:
    old = begin(store, a=1)
    session = Session(store, old)
    session.rotate()
    session.save()
    late = Session(store, old)
    assert dict(late) == {}
    late.save()
    assert late.new_id is None and not late.is_cookie_dead


def test_a_login_with_the_old_id_is_a_new_session(store: Store) -> None:
    """As after a second click on the button."""
    old = begin(store, a=1)
    for _ in range(2):
        session = Session(store, old)
        session.clear()
        session.log_in("ada")
        session.save()
        assert session.new_id
        assert Session(store, session.new_id).user == "ada"


@pytest.fixture
def short_lived(make_store: Callable[..., Store]) -> Store:
    """A store with an idle time of 0.2 s."""
    return make_store(idle=0.2)


@pytest.mark.parametrize("write", [lambda s: s.update(b=2), lambda s: s.increment("b", 2)], ids=["value", "increment"])
def test_an_anonymous_session_that_expires_during_a_request_is_recreated(
    short_lived: Store, write: Callable[[Session], object]
) -> None:
    """With the values that the request wrote, and under a new id."""
    old = begin(short_lived, a=1)
    session = Session(short_lived, old)
    assert session["a"] == 1
    time.sleep(0.4)
    write(session)
    session.save()
    assert session.new_id not in (None, old)
    assert read(short_lived, session.new_id) == {"b": 2}


def test_a_session_of_a_user_that_expires_during_a_request_has_ended(short_lived: Store) -> None:
    session = Session(short_lived, None)
    session.log_in("ada")
    session.save()
    late = Session(short_lived, session.new_id)
    assert late.user == "ada"
    time.sleep(0.4)
    late["b"] = 2
    with pytest.raises(SessionEnded) as raised:
        late.save()
    assert raised.value.code == 401


# Wrong arguments: an error of the app, which names the argument, and never a failure of the store


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"user": 5}, TypeError, "user must be str, not int"),
        ({"user": None}, TypeError, "user must be str, not NoneType"),
        ({"user": ""}, ValueError, "user is empty"),
        ({"user": "a\ud800"}, ValueError, "user holds half of a surrogate pair"),
        ({"user": "ada", "address": 7}, TypeError, "address must be str, not int"),
        ({"user": "ada", "agent": b"x"}, TypeError, "agent must be str, not bytes"),
        ({"user": "ada", "node": "\udfff"}, ValueError, "node holds half of a surrogate pair"),
    ],
)
def test_a_wrong_argument_of_log_in(
    store: Store, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    session = Session(store, begin(store, a=1))
    with pytest.raises(error, match=message):
        session.log_in(**arguments)
    session["a"] = 2
    session.save()  # the session is as it was
    assert session.user is None
    assert read(store, session._cookie_id) == {"a": 2}


def test_what_is_not_known_about_a_client_may_be_none(store: Store) -> None:
    """As request.remote_addr is behind some servers."""
    session = Session(store, None)
    session.log_in("ada", address=None, agent=None, node=None)
    session.save()
    (own,) = store.sessions_of("ada")
    assert (own.address, own.agent, own.node) == ("", "", "")


@pytest.mark.parametrize(
    ("key", "by", "error", "message"),
    [
        ("n", 1.5, TypeError, "by must be int, not float"),
        ("n", True, TypeError, "by must be int, not bool"),
        ("n", "1", TypeError, "by must be int, not str"),
        ("n", 2**63, ValueError, "by is 9223372036854775808, which has more than 64 bits"),
        ("n", -(2**63) - 1, ValueError, "more than 64 bits"),
        ("full", 1, ValueError, "more than 64 bits"),
        (7, 1, TypeError, "key must be str, not int"),
        ("\ud800", 1, ValueError, "key holds half of a surrogate pair"),
        ("text", 1, TypeError, "increment"),
    ],
)
@pytest.mark.parametrize("is_stored", [True, False])
def test_a_wrong_argument_of_increment(
    store: Store, key: Any, by: Any, error: type[Exception], message: str, is_stored: bool
) -> None:
    values = {"n": 1, "full": 2**63 - 1, "text": "a"}
    session = Session(store, begin(store, **values) if is_stored else None)
    if not is_stored:
        session.update(values)
    with pytest.raises(error, match=message):
        session.increment(key, by)


def test_a_key_that_can_not_be_stored_is_named(store: Store) -> None:
    session = Session(store, None)
    session["a\ud800"] = 1
    with pytest.raises(ValueError, match=r"session\['a\\ud800'\]: the key holds half of a surrogate pair"):
        session.save()


def test_a_session_that_is_too_large_is_refused_before_it_is_sent(store: Store) -> None:
    session_id = begin(store, a=1)
    session = Session(store, session_id)
    session["basket"] = "x" * 1_000_000
    session["more"] = "x" * 100_000
    with pytest.raises(SessionTooLarge, match=r"1100016 bytes, 1000008 of them in session\['basket'\]; the limit is"):
        session.save()
    assert read(store, session_id) == {"a": 1}
    Session(store, session_id).end()  # the store works


def test_a_session_is_merged_copied_and_shown_as_a_dict_is(store: Store) -> None:
    """But it shows no values and no id, which may be confidential."""
    session_id = begin(store, a=1)
    session = Session(store, session_id)
    assert repr(session) == "<Session: not read yet>"
    assert (session | {"b": 2}, {"b": 2} | session) == ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    copy = session.copy()
    copy["c"] = 3
    session |= {"b": 2}
    assert isinstance(session, Session)
    session.save()
    assert read(store, session_id) == {"a": 1, "b": 2}
    assert repr(session) == "<Session: 2 values>"


def test_a_saved_change_is_a_modification_of_this_request(store: Store) -> None:
    session = Session(store, session_id := begin(store, a=1))
    assert not session.modified
    session["a"] = 2
    session.save()
    assert session.modified
    counted = Session(store, session_id)
    counted.increment("n")
    assert counted.modified
    assert not Session(store, session_id).modified


def test_refresh_saves_and_reads_again(store: Store) -> None:
    """A websocket sees what other requests have written, and that they have ended the session."""
    one = Session(store, session_id := begin(store, a=1))
    other = Session(store, session_id)
    one["b"], other["a"] = 2, 5
    other.save()
    assert one["a"] == 1
    one.refresh()
    assert dict(one) == {"a": 5, "b": 2}
    Session(store, session_id).end()
    one.refresh()
    assert dict(one) == {}
    assert one.user is None


def test_a_login_ends_for_a_connection_that_refreshes(store: Store) -> None:
    session = Session(store, None)
    session.log_in("ada")
    session.save()
    Session(store, session.new_id).end()
    session.refresh()
    assert (session.user, session.handle, session.created) == (None, None, None)


@pytest.mark.parametrize(
    "change", [lambda each: each.rotate(), lambda each: each.log_in("ada")], ids=["rotate", "login"]
)
def test_no_session_is_created_when_its_cookie_can_not_be_set(
    store: Store, change: Callable[[Session], object]
) -> None:
    session_id = begin(store, a=1)
    for cookie in (session_id, None):
        session = Session(store, cookie)
        session["b"] = 1
        change(session)
        session.begin_response()
        with pytest.raises(RuntimeError, match="the response has begun, so the client can't get the cookie"):
            session.save()
    assert store.count().sessions == 1
    existing = Session(store, session_id)
    existing.begin_response()
    existing["b"] = 2
    existing.save()
    assert read(store, session_id) == {"a": 1, "b": 2}


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_what_can_be_written_can_be_read_from_a_deep_stack(store: Store) -> None:
    """A session is never dropped because the stack of the reader is nearly exhausted."""
    session_id = begin(store, deep=nested(100))
    reader = Session(store, session_id)
    assert "deep" in reader

    def descend() -> Any:
        try:
            return descend()
        except RecursionError:
            return reader["deep"]

    with suppress(RecursionError):
        descend()
    assert read(store, session_id) == {"deep": nested(100)}
    with pytest.raises(TypeError, match=r"session\['deep'\] is nested in more than 100 levels"):
        begin(store, deep=nested(101))


def test_messages_that_two_requests_flash_at_once_are_both_kept(store: Store) -> None:
    """As flask.flash() stores them: the whole list. Another list is one value, of which the last write wins."""
    for before in ([], [["message", "old"]]):
        session_id = begin(store, a=1, **({"_flashes": before} if before else {}))
        requests = [Session(store, session_id) for _ in range(2)]
        for number, session in enumerate(requests):
            flashes = session.get("_flashes", [])
            flashes.append(["message", f"{number}, ]"])
            session["_flashes"] = flashes
        for session in requests:
            session.save()
        expected = [*before, ["message", "0, ]"], ["message", "1, ]"]]
        assert read(store, session_id) == {"a": 1, "_flashes": expected}
        reader = Session(store, session_id)
        assert reader.pop("_flashes") == expected
        reader.save()
        assert read(store, session_id) == {"a": 1}
    one, other = Session(store, session_id), Session(store, session_id)
    one["_flashes"], other["_flashes"] = [1], []
    one.save()
    other.save()
    assert read(store, session_id) == {"a": 1, "_flashes": []}
    session = Session(store, session_id)
    session["_flashes"] = [1]
    session.save()
    session["_flashes"] = [2]
    session.save()
    assert read(store, session_id) == {"a": 1, "_flashes": [2]}
