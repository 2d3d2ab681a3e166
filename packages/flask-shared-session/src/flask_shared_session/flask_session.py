"""Migration from Flask-Session 0.8.0 with Redis without logging users out.

See docs/how-to/move-from-flask-session.md.
"""

import base64
import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from flask import Flask, Request, request
from flask.sessions import SessionInterface, SessionMixin
from itsdangerous import BadSignature, Signer, want_bytes
from redis.exceptions import RedisError, ResponseError
from werkzeug.wrappers import Response

from .errors import SessionStoreError
from .ids import digest, index_name, is_id, make_handle, slot_of
from .interface import SharedSessionInterface
from .serializer import dumps
from .session import AGENT_CHARACTERS, Session
from .store import Login, Store

try:
    import msgspec
except ImportError as error:
    raise ImportError(
        "flask_shared_session.flask_session needs msgspec: pip install 'flask-shared-session[migrate]'"
    ) from error

# Takes an old session's values; returns its user (None without a login) and the JSON values to keep, or None to drop it
Adopt = Callable[[dict[str, Any]], tuple[str | None, dict[str, Any]] | None]

_MOVED = "_moved_to"  # the only value of an old session after its move; Flask-Session can read it, too
_MOVED_MS = 60_000  # for requests that were sent while their browser had only the old cookie
_CLAIM_MS = 10_000
_WAIT_SECONDS = 0.8
_OLD_ID = re.compile(r"[A-Za-z0-9_-]{16,256}")
_log = logging.getLogger(__name__)


class BothInterface(SharedSessionInterface):
    """Sessions in a `Store` together with the sessions of Flask-Session.

    old: Flask-Session's interface; its client, prefix, signing and cookie (SESSION_COOKIE_NAME) are used.
    cookie: the cookie name of new sessions, which must differ from the old name.
    adopt: without it, Flask-Session creates all sessions, and new sessions of other nodes are only read. With it, new
        sessions are created, and an old session that a client sends is moved into a new session, exactly once even if
        many requests send it. It may be called again, so it must have no side effects.
    The app needs the same SECRET_KEY on all nodes.
    """

    def __init__(self, store: Store, old: SessionInterface, *, cookie: str, adopt: Adopt | None = None):
        super().__init__(store)
        self._old: Any = old
        self._cookie = cookie
        self._adopt = adopt

    def get_cookie_name(self, app: Flask) -> str:
        return self._cookie

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        if is_id(request.cookies.get(self._cookie, "")):
            return super().open_session(app, request)
        old_id, adopt = self._old_id(app, request), self._adopt
        if adopt is None:
            old: SessionMixin = self._old.open_session(app, request)
            if old_id is None or _MOVED not in old:
                return old
            # use the values that were read: Flask-Session on another node may write the old values back at any moment
            return _Moved(self.store, lambda: _id(old, self._seal(app, old_id)))
        if old_id is None:
            return super().open_session(app, request)
        return _Moved(self.store, lambda: self._find(self._seal(app, old_id), old_id, adopt))

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if not isinstance(session, Session):
            self._old.save_session(app, session, response)
            return
        super().save_session(app, session, response)
        old_id = self._old_id(app, request)
        if old_id and session.is_loaded:
            with suppress(RedisError):  # the next request will try again
                self._old.client.pexpire(self._old.key_prefix + old_id, _MOVED_MS)
                response.delete_cookie(self._old.get_cookie_name(app), **self._cookie_attributes(app))

    def _old_id(self, app: Flask, request: Request) -> str | None:
        cookie = request.cookies.get(self._old.get_cookie_name(app), "")
        if self._old.use_signer:
            try:
                signer = Signer(app.config["SECRET_KEY"], salt="flask-session", key_derivation="hmac")
                cookie = signer.unsign(cookie).decode()
            except (BadSignature, ValueError):
                return None
        return cookie if _OLD_ID.fullmatch(cookie) else None

    def _seal(self, app: Flask, old_id: str) -> str:
        """The end of the id of the session that the old session is moved into.

        Not random, so that concurrent requests find the same session. The old id or the key alone don't reveal it.
        """
        if not app.secret_key:
            raise RuntimeError("the migration from Flask-Session needs the same SECRET_KEY on all nodes")
        seal = hmac.digest(want_bytes(app.secret_key), b"moved from Flask-Session:" + old_id.encode(), "sha256")
        return base64.urlsafe_b64encode(seal).rstrip(b"=").decode()

    def _find(self, seal: str, old_id: str, adopt: Adopt) -> str | None:
        """The id of the session that the old session was moved into, now or before; None if there is no session."""
        client, key = self._old.client, self._old.key_prefix + old_id
        deadline = time.monotonic() + _WAIT_SECONDS
        try:
            while (values := self._old_values(key)) is not None:
                if _MOVED in values:
                    return _id(values, seal)
                if time.monotonic() > deadline:
                    raise SessionStoreError
                if client.set(key + ":claim", b"", nx=True, px=_CLAIM_MS):
                    try:
                        self._move(key, seal, adopt)
                    finally:
                        client.delete(key + ":claim")
                else:
                    time.sleep(0.02)
        except RedisError as error:
            _log.warning("session store: Flask-Session's Redis: %s: %s", type(error).__name__, error)
            raise SessionStoreError from error
        return None

    def _move(self, key: str, seal: str, adopt: Adopt) -> None:
        values = self._old_values(key)
        if values is None or _MOVED in values:  # another request was faster
            return
        adopted = adopt(values)
        if adopted is None:
            self._old.client.delete(key)
            return
        user, kept = adopted
        login = None
        if user is not None:
            agent = request.user_agent.string[:AGENT_CHARACTERS]
            login = Login(user, make_handle(user), request.remote_addr or "", agent, "")
        new_id = slot_of(index_name(user) if user is not None else seal) + seal
        if self.store.read(new_id) is None:  # else it was moved, and Flask-Session on another node wrote it back
            self.store.create(new_id, {name: dumps(name, value) for name, value in kept.items()}, None, login)
        left = msgspec.msgpack.encode({_MOVED: slot_of(new_id)})
        if not self._old.client.set(key, left, xx=True, px=_MOVED_MS):
            self.store.delete(new_id)  # Flask-Session on another node has just logged this user out

    def _old_values(self, key: str) -> dict[str, Any] | None:
        try:
            text = self._old.client.get(key)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            text = b""
        if text is None:
            return None
        for decode in (msgspec.msgpack.decode, msgspec.json.decode):
            with suppress(msgspec.MsgspecError, ValueError, RecursionError):
                return decode(text, type=dict[str, Any])
        # Flask-Session unpickles texts it can't decode. Never do: write access to Redis must not run code
        _log.warning("dropped an unreadable Flask-Session, sha256 of its key %s", digest(key))
        self._old.client.delete(key)
        return None


def _id(moved: Mapping[str, Any], seal: str) -> str | None:
    """The id of the new session that the old session points to; None if another application wrote the pointer."""
    found = f"{moved[_MOVED]}{seal}"
    return found if is_id(found) else None


class _Moved(Session):
    """A session that resolves its id at first use."""

    def __init__(self, store: Store, find: Callable[[], str | None]):
        super().__init__(store, None)
        self._find = find
        self._loaded = False

    def _read(self) -> None:
        self._id = self._find()
        super()._read()

    def end(self) -> None:
        self._load()
        super().end()
