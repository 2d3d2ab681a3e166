"""Random interleavings of requests on a real Redis, compared with a model after each step."""

import copy
import json
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import Flask
from flask_shared_session import RedisStore, Session, SessionEnded, SessionMoved, SharedSessionInterface
from flask_shared_session.ids import make_id
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from lib.demo_app import redis_store
from lib.redis_server import PREFIX, RedisServer, default_server

KEYS = st.sampled_from(["a", "b", "list"])
USERS = st.sampled_from(["ada", "bob"])


# returns key, time to live and, of a hash, fields and texts of each key
READ_ALL = """
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local fields = redis.call('TYPE', key).ok == 'hash' and redis.call('HGETALL', key) or {}
  all[#all + 1] = { key, redis.call('PTTL', key), fields }
end
return all
"""


class Kept:
    """A session in the model's store."""

    def __init__(self, values: dict[str, Any], user: str | None) -> None:
        self.values, self.user = copy.deepcopy(values), user


class Request:
    """A request: the real session, and its model."""

    def __init__(self, interface: SharedSessionInterface, app: Flask, cookie: str | None) -> None:
        headers = {"Cookie": f"session={cookie}"} if cookie else {}
        with app.test_request_context(headers=headers) as context:
            session = interface.open_session(app, context.request)
        assert isinstance(session, Session)
        self.session = session
        self.cookie = cookie
        self.held = cookie
        self.loaded = cookie is None
        self.values: dict[str, Any] = {}
        self.base: dict[str, Any] = {}  # the values in the store when it was read
        self.kept: Kept | None = None  # the session in the model's store that it uses
        self.login: str | None = None
        self.cleared = self.rotated = self.ended = False


class Sessions(RuleBasedStateMachine):
    requests = Bundle("requests")
    cookies = Bundle("cookies")

    def __init__(self, store: RedisStore, redis: RedisServer) -> None:
        super().__init__()
        redis.admin.flushall()
        self.redis, self.store = redis, store
        self.app = flask.Flask("guest")
        self.interface = SharedSessionInterface(store)
        self.read_all = redis.admin.register_script(READ_ALL)
        self.kept: dict[str | None, Kept] = {}  # id -> Kept: the model's store
        self.gone: dict[str | None, str] = {}  # how sessions went, by id
        self.open: list[Request] = []

    # Requests start and finish; most of them use the same few sessions

    @initialize(target=cookies, user=st.none() | USERS)
    def there_is_a_session(self, user: str | None) -> Any:
        request = self.begin(None)
        self.write(request, "a", 0)
        if user:
            self.log_in(request, user)
        return self.a_request_finishes(request)

    @rule(target=requests, cookie=st.none() | st.builds(make_id))
    def a_request_without_a_session_begins(self, cookie: str | None) -> Request:
        return self.begin(cookie)

    @rule(target=requests, cookie=cookies, is_read=st.booleans())
    def a_request_begins(self, cookie: str | None, is_read: bool) -> Request:
        request = self.begin(cookie)
        if is_read:
            self.load(request)
        return request

    @rule(target=cookies, request=consumes(requests))
    def a_request_finishes(self, request: Request) -> str:
        self.open.remove(request)
        response = self.app.response_class()
        refused = self.save(request)
        with self.app.test_request_context():
            self.interface.save_session(self.app, request.session, response)
        self.learn_id(request)
        assert response.status_code == {"": 200, "ended": 401, "moved": 409}[refused]
        set_cookie = response.headers.get("Set-Cookie", "")
        if request.held and request.held != request.cookie:
            assert set_cookie.startswith(f"session={request.held};")
        elif request.ended and request.cookie and not request.held:
            assert "Max-Age=0" in set_cookie
        else:
            assert not set_cookie
        return request.held or request.cookie or make_id()

    @rule(cookie=cookies)
    def a_session_expires(self, cookie: str) -> None:
        """At a session's expiry, Redis deletes its key."""
        self.redis.admin.delete(self.store._key(cookie))
        self.kept.pop(cookie, None)

    # The steps of a view

    @rule(request=requests, key=KEYS)
    def read(self, request: Request, key: str) -> None:
        self.load(request)
        assert request.session.get(key) == request.values.get(key)

    @rule(request=requests, key=st.sampled_from(["a", "b"]), value=st.integers(0, 3))
    def write(self, request: Request, key: str, value: int) -> None:
        self.load(request)
        request.session[key] = request.values[key] = value

    @rule(request=requests, value=st.integers(0, 3))
    def append(self, request: Request, value: int) -> None:
        self.load(request)
        for each in (request.session, request.values):
            each.setdefault("list", []).append(value)

    @rule(request=requests, key=KEYS)
    def delete(self, request: Request, key: str) -> None:
        self.load(request)
        request.session.pop(key, None)
        request.values.pop(key, None)

    @rule(request=requests, by=st.integers(-2, 5))
    def increment(self, request: Request, by: int) -> None:
        self.load(request)
        if self.starts_new_session(request) or request.values.get("n") != request.base.get("n"):
            request.values["n"] = request.values.get("n", 0) + by
        elif request.held not in self.kept:
            changed = {**self.changed(request), "n": by}
            refused = self.recreate(request, changed)
            if refused:
                return self.expect_refused(request, refused, lambda: request.session.increment("n", by))
            request.base = copy.deepcopy(request.values)
        else:
            values = self.kept[request.held].values
            values["n"] = request.values["n"] = request.base["n"] = values.get("n", 0) + by
        assert request.session.increment("n", by) == request.values["n"]
        self.learn_id(request)

    @rule(request=requests)
    def clear(self, request: Request) -> None:
        self.load(request)
        request.session.clear()
        self.model_clear(request)

    @rule(request=requests)
    def rotate(self, request: Request) -> None:
        self.load(request)
        request.session.rotate()
        request.rotated = True

    @rule(request=requests, user=USERS)
    def log_in(self, request: Request, user: str) -> None:
        self.load(request)
        request.session.log_in(user)
        if self.user(request) not in (None, user):
            self.model_clear(request)
        request.login = user

    @rule(request=requests)
    def end(self, request: Request) -> None:
        request.session.end()
        self.model_end(request)

    @rule(request=requests)
    def save_now(self, request: Request) -> None:
        if refused := self.save(request):
            return self.expect_refused(request, refused, request.session.save)
        request.session.save()
        self.learn_id(request)

    @rule(request=requests, and_this_one=st.booleans())
    def end_sessions(self, request: Request, and_this_one: bool) -> None:
        end = request.session.end_all if and_this_one else request.session.end_others
        self.load(request)
        if request.login or request.cleared:
            assert not self.save(request)
        own = request.kept
        ended: list[Kept] = []
        if own and own.user:
            others = [each for each in self.kept.values() if each.user == own.user and each is not own]
            # another request may have ended this session
            ended = others + [own] * (and_this_one and own in self.kept.values())
        assert end() == len(ended)
        self.remove(ended, "ended")
        if and_this_one and own and own.user:
            self.forget(request, ended=True)
        self.learn_id(request)

    # Invariants

    @invariant()
    def the_store_matches_the_model(self) -> None:
        """Also every key expires. A script reads everything in a single round trip: this runs after each step."""
        found = {
            key: (life, dict(zip(fields[::2], fields[1::2], strict=True))) for key, life, fields in self.read_all()
        }
        assert [key for key, (life, _) in found.items() if life < 0] == []
        stored = {self.store._key(str(each)): kept for each, kept in self.kept.items()}
        assert {key for key in found if key.startswith(f"{PREFIX}session:")} == stored.keys()
        for key, kept in stored.items():
            fields = found[key][1]
            values = {name[2:]: json.loads(text) for name, text in fields.items() if name.startswith("s:")}
            assert (values, fields.get("m:user")) == (kept.values, kept.user)
        for user in ("ada", "bob"):
            expected = sum(kept.user == user for kept in self.kept.values())
            assert len(self.store.sessions_of(user)) == expected

    def teardown(self) -> None:
        while self.open:
            self.a_request_finishes(self.open[0])
            self.the_store_matches_the_model()

    # The model

    def begin(self, cookie: str | None) -> Request:
        self.open.append(Request(self.interface, self.app, cookie))
        return self.open[-1]

    def load(self, request: Request) -> None:
        if not request.loaded:
            request.loaded = True
            request.kept = self.kept.get(request.held)
            if request.kept is None:
                request.held = None
            else:
                request.values, request.base = (copy.deepcopy(request.kept.values) for _ in range(2))
        assert dict(request.session) == request.values
        assert request.session.user == self.user(request)

    def user(self, request: Request) -> str | None:
        if request.login or request.cleared or not request.kept:
            return request.login
        return request.kept.user

    def starts_new_session(self, request: Request) -> object:
        return not request.held or request.login or request.cleared

    def save(self, request: Request) -> str:
        """Save in the model. Returns "" or why it is refused: "moved" or "ended", by what happened elsewhere."""
        if not request.loaded:
            return ""
        if request.cleared and not request.values and not request.login:
            self.model_end(request)
            return ""
        if self.starts_new_session(request):
            if request.values or request.login:
                replaces = request.login or request.cleared
                if not replaces and not request.ended and self.gone.get(request.cookie) == "moved":
                    self.forget(request, ended=False)
                    return "moved"
                self.create(request)
        else:
            changed = self.changed(request)
            deleted = request.base.keys() - request.values.keys()
            if changed or deleted or request.rotated:
                if request.held not in self.kept:
                    if refused := self.recreate(request, changed):
                        return refused
                else:
                    assert request.kept
                    request.kept.values.update(copy.deepcopy(changed))
                    for key in deleted:
                        request.kept.values.pop(key, None)
                    if request.rotated:
                        self.remove([request.kept], "moved")
                        self.kept["new"] = request.kept
                        request.held = "new"
        request.base = copy.deepcopy(request.values)
        request.login = None
        request.cleared = request.rotated = False
        return ""

    def changed(self, request: Request) -> dict[str, Any]:
        return {k: v for k, v in request.values.items() if k not in request.base or request.base[k] != v}

    def create(self, request: Request) -> None:
        if request.held in self.kept:
            self.remove([self.kept[request.held]], "moved")
        request.kept = Kept(request.values, request.login)
        request.held = "new"  # only the real session has the id
        self.kept["new"] = request.kept

    def recreate(self, request: Request, changed: dict[str, Any]) -> str:
        """Save in a new session what the request wrote, if its session was anonymous and has expired.

        Returns "moved" or "ended" if it is refused.
        """
        assert request.kept
        gone = self.gone.get(request.held, "ended" if request.kept.user else "")
        if gone:
            self.forget(request, ended=False)
            return gone
        request.values, request.held, request.kept = changed, None, None
        if changed:
            self.create(request)
        return ""

    def remove(self, removed: list[Kept], kind: str) -> None:
        for each in [each for each, kept in self.kept.items() if kept in removed]:
            del self.kept[each]
            self.gone[each] = kind

    def learn_id(self, request: Request) -> None:
        if request.held == "new":
            request.held = request.session.new_id
            assert request.held not in self.kept
            self.kept[request.held] = self.kept.pop("new")

    def model_clear(self, request: Request) -> None:
        request.values = {}
        request.cleared, request.login = True, None

    def model_end(self, request: Request) -> None:
        removed = [self.kept[request.held]] if request.held in self.kept else []
        if request.kept and request.kept.user:  # found by its handle
            removed.append(request.kept)
        self.remove(removed, "ended")
        self.forget(request, ended=True)

    def forget(self, request: Request, ended: bool) -> None:
        request.values, request.base = {}, {}
        request.held = request.kept = request.login = None
        request.cleared = request.rotated = False
        request.loaded, request.ended = True, ended

    def expect_refused(self, request: Request, kind: str, call: Callable[[], object]) -> None:
        with pytest.raises(SessionEnded) as raised:
            call()
        assert isinstance(raised.value, SessionMoved) == (kind == "moved")
        self.forget(request, ended=False)


@pytest.mark.every_server
def test_sessions_match_the_model(redis: RedisServer, server_name: str) -> None:
    store = redis_store(redis, per_user=1000)
    run_state_machine_as_test(
        lambda: Sessions(store, redis),  # type: ignore[arg-type] # a function that makes it is allowed, too
        settings=settings(
            max_examples=200 if server_name == default_server() else 50,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
