"""The session of a request: a mapping that is read at first use, and written if changed."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Self

from flask.sessions import SessionMixin

from . import arguments
from .errors import SessionEnded, SessionMoved, SessionStoreError, SessionTooLarge
from .ids import digest, index_name, make_handle, make_id
from .serializer import dumps, is_same, loads
from .store import Login, SessionInfo, Store, as_moment

AGENT_CHARACTERS = 256
_UNREAD: Any = object()  # a value that is in the store, and that this request hasn't used
_FLASHES = "_flashes"  # of flask.flash()
_PERMANENT = "_permanent"  # Flask stores session.permanent under this key
_log = logging.getLogger(__name__)


class Session(SessionMixin):
    """A mapping of str to JSON values. Used by a single request and thread.

    Any use may raise SessionStoreError; every further use in the same request then raises it, too.
    """

    def __init__(self, store: Store, session_id: str | None):
        """session_id: the well-formed id that the client sent, if any."""
        self._store = store
        self._cookie_id = session_id
        self._id = session_id  # None: the store has no such session
        self._loaded = session_id is None
        self._found = False if session_id is None else None  # None: not queried yet, or no answer
        self._values: dict[str, Any] = {}  # decoded at first use
        self._stored: dict[str, str] = {}  # the JSON texts in the store; at the end, differences are written
        self._constants: dict[str, Any] = {}  # decoded values that can't change, so need no comparison at the end
        self._was_permanent = False
        self._created: int | None = None
        self._user: str | None = None
        self._handle: str | None = None
        self._login: Login | None = None  # requested, and not saved yet
        self._cleared = False
        self._rotated = False
        self._ended = False
        self._written = False  # whether this request has changed the stored session
        self._response_begun = False
        self._failure: Exception | None = None

    # The mapping; MutableMapping adds get, pop, update, ...

    def __getitem__(self, key: str) -> Any:
        value = self._load()[key]
        return self._decode(key) if value is _UNREAD else value

    def __setitem__(self, key: str, value: Any) -> None:
        self._load()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._load()[key]

    def __iter__(self) -> Iterator[str]:
        # All values now: if one can't be read, the session is dropped, and no iteration may be in progress.
        for key in [key for key, value in self._load().items() if value is _UNREAD]:
            if key in self._values:
                self.get(key)
        return iter(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._load()

    def __len__(self) -> int:
        return len(self._load())

    def clear(self) -> None:
        """Remove all values and the login. Without new values, the session ends; with new values, a new session starts.

        So an app that logs a user in by clear() and session["user_id"] = ... leaves no session whose id was known
        before the login.
        """
        self._load().clear()
        self._cleared = True
        self._login = None

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self) | dict(other)

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return dict(other) | dict(self)

    def __ior__(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Self:
        self.update(other)
        return self

    def copy(self) -> dict[str, Any]:
        """Return the values in a dict of their own; nested values are shared, as in any shallow copy."""
        return dict(self)

    def __repr__(self) -> str:
        """Show neither id nor values, which may be confidential, and don't query the store."""
        return f"<{type(self).__name__}: {f'{len(self._values)} values' if self._loaded else 'not read yet'}>"

    @property
    def new(self) -> bool:  # type: ignore[override] # Flask has a plain attribute, but this takes a read
        """Whether the request came without an existing session."""
        self._load()
        return not self._found

    @property
    def modified(self) -> bool:
        """Whether this request has changed the session, saved or not.

        Changes of nested values are detected, so assignment has no effect.
        """
        is_changed = any(map(self._is_changed, self._stored.keys() | self._values))
        return self._written or self._starts_new_session or self._rotated or is_changed

    @modified.setter
    def modified(self, value: bool) -> None:
        pass

    # Methods beyond the mapping

    @property
    def created(self) -> datetime | None:
        """Creation time by the store's clock; None before the first save."""
        self._load()
        return None if self._created is None else as_moment(self._created)

    @property
    def user(self) -> str | None:
        """The user that logged in with log_in(), None without a login."""
        self._load()
        if self._login:
            return self._login.user
        return None if self._cleared else self._user

    @property
    def handle(self) -> str | None:
        """The session's public name, by which its user or an operator can end it; None without a login."""
        self._load()
        if self._login:
            return self._login.handle
        return None if self._cleared else self._handle

    def log_in(
        self, user: str, *, address: str | None = None, agent: str | None = None, node: str | None = None
    ) -> None:
        """Log the user in when the session is saved: with a new id and a new lifetime.

        Values are kept unless clear() was called or they belong to another user; the old id becomes invalid.
        user: name. address, agent, node: client address, User-Agent and node, to be shown to the user.
        Raises TypeError or ValueError for a value that can't be stored.
        """
        user = arguments.text("user", user, may_be_empty=False)
        about = {
            name: arguments.optional_text(name, value)
            for name, value in (("address", address), ("agent", agent), ("node", node))
        }
        if self.user not in (None, user):
            self.clear()
        about["agent"] = about["agent"][:AGENT_CHARACTERS]
        self._login = Login(user, make_handle(user), **about)

    def sessions(self) -> list[SessionInfo]:
        """Return all sessions of this session's user, the oldest first; none without a user."""
        user = self._saved_user()
        with self._recording_failure():
            return self._store.sessions_of(user) if user is not None else []

    def end_session(self, handle: str) -> bool:
        """End a session of this session's user now, on all nodes. Returns whether the user had a session with this
        handle.
        """
        user = self._saved_user()
        if user is None:
            return False
        if handle == self._handle:
            self.end()
            return True
        with self._recording_failure():
            ended = self._store.end_session(handle, user)
        self._store.observer.ended("user", ended)
        return ended

    def end_others(self) -> int:
        """End all other sessions of this session's user now, on all nodes. Returns their number."""
        user = self._saved_user()
        if user is None:
            return 0
        with self._recording_failure():
            ended = self._store.end_sessions(user, but=self._handle)
        self._store.observer.ended("others", ended)
        return ended

    def end_all(self, cause: str = "all") -> int:
        """End all sessions of this session's user now, on all nodes, including this session. Returns their number.

        cause: label for metrics; from a fixed set of words, without any user data.
        """
        user = self._saved_user()
        if user is None:
            return 0
        with self._recording_failure():
            ended = self._store.end_sessions(user)
        self._store.observer.ended(cause, ended)
        self._forget()
        return ended

    def rotate(self) -> None:
        """Give the session a new id when it is saved; the old id becomes invalid.

        Call it when the user's privileges change; log_in() does it, too.

        Values and absolute expiry are kept, unless clear() was called as well: then a session with a new lifetime
        replaces the old session.
        """
        self._load()
        self._rotated = True

    def end(self) -> None:
        """Delete the session now, on all nodes. A concurrent request can't recreate it."""
        if self._id is not None:
            with self._recording_failure():
                ended = self._store.delete(self._id, self._handle)
            self._store.observer.ended("logout", ended)
            if not self._loaded:
                self._found = ended
                if not ended:
                    self._store.observer.unknown()
        self._forget()

    def increment(self, key: str, by: int = 1) -> int:
        """Add `by` to session[key] now, atomically across all nodes. Returns the sum. A missing value counts as 0.

        Raises SessionEnded if the session ended elsewhere, TypeError if session[key] or by isn't an integer, ValueError
        if by or the sum has more than 64 bits.
        """
        arguments.text("key", key)
        by = arguments.integer("by", by)
        value = self.get(key, 0)
        values = self._values
        if self._id is None or self._starts_new_session or self._is_changed(key):
            # this request sets the value, the store has no value to add to
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"session[{key!r}] holds a {type(value).__name__}, can't increment it")
            values[key] = added = arguments.integer(f"session[{key!r}] + by", value + by)
            return added
        with self._recording_failure():
            total = self._store.increment(self._id, key, by)
        if total is None:
            values[key] = by
            with self._recording_failure():
                texts = {each: self._text(each) for each in values}
                changed = {each for each, text in texts.items() if self._stored.get(each) != text} | {key}
                self._recreate(self._id, {each: texts[each] for each in changed})
            return by
        values[key] = total
        self._stored[key] = dumps(key, total)
        self._constants.pop(key, None)  # of the text before
        self._written = True
        return total

    def save(self) -> None:
        """Write the changes. The interface does it after the view; call it to handle errors in the view.

        Raises SessionEnded if the session ended elsewhere, TypeError if JSON can't represent a value. It writes nothing
        then.
        """
        if self._failure or not self._loaded:
            return
        with self._recording_failure():
            self._write()

    def refresh(self) -> None:
        """Save the changes, and read the session again at its next use.

        For connections that outlive a request, such as websockets: others may have changed or ended the session
        meanwhile, or the store may be available again. Raises as save() does.
        """
        self.save()
        self._failure = None
        self._loaded = self._id is None
        if self._id is not None:
            self._values, self._stored, self._constants = {}, {}, {}

    # For the interface, when it prepares the response

    def begin_response(self) -> None:
        """From now on no cookie can be set."""
        self._response_begun = True

    @property
    def is_loaded(self) -> bool:
        """Whether this request used the session, and the store answered."""
        return self._loaded

    @property
    def is_lasting(self) -> bool:
        """Whether the cookie persists when the browser is closed: `permanent` as saved."""
        return self._stored.get(_PERMANENT) == "true"

    @property
    def found(self) -> bool | None:
        """Whether the request came with an existing session; None if the store didn't answer or wasn't queried yet."""
        return self._found

    @property
    def new_id(self) -> str | None:
        """The id for a new cookie; None if the client's cookie already has this id and persistence."""
        is_known = self._id == self._cookie_id and self.is_lasting == self._was_permanent
        return None if is_known else self._id

    @property
    def is_cookie_dead(self) -> bool:
        """Whether the client sent the id of a session that this request ended."""
        return self._ended and self._cookie_id is not None and self._id is None

    @property
    def _starts_new_session(self) -> bool:
        """Whether a new session replaces the stored session."""
        return self._login is not None or self._cleared

    def _saved_user(self) -> str | None:
        """The session's user in the store, after saving a login of this request."""
        self._load()
        if self._login or self._cleared:
            self.save()
        return self._user

    def _load(self) -> dict[str, Any]:
        if isinstance(self._failure, SessionStoreError):
            raise SessionStoreError  # don't let the user wait for the store twice
        if not self._loaded:
            with self._recording_failure():
                self._read()
            self._loaded = True
        return self._values

    def _read(self) -> None:
        session_id = self._id
        if session_id is None:
            return
        try:
            record = self._store.read(session_id)
            if record is None:
                self._store.observer.unknown()
        except ValueError as error:
            self._drop(session_id, error)
            record = None
        self._found = record is not None
        if record is None:
            self._id = self._created = self._user = self._handle = None
        else:
            self._values, self._stored = dict.fromkeys(record.texts, _UNREAD), record.texts
            self._created, self._user, self._handle = record.created, record.user, record.handle
            self._was_permanent = self.is_lasting

    def _decode(self, key: str) -> Any:
        """Decode a value of the store. Raises KeyError if it can't be read; the session is dropped then."""
        try:
            value = loads(self._stored[key])
        except ValueError as error:
            assert self._id
            with self._recording_failure():
                self._drop(self._id, error)
            self._forget()
            self._found = False
            raise KeyError(key) from None
        self._values[key] = value
        if not isinstance(value, (dict, list)):
            self._constants[key] = value
        return value

    def _drop(self, session_id: str, error: Exception) -> None:
        _log.warning("dropped an unreadable session, sha256 %s: %s", digest(session_id), type(error).__name__)
        self._store.observer.ended("unreadable", self._store.delete(session_id))

    def _text(self, key: str) -> str:
        """Return the JSON text of a value; that of the store if the value can't have changed."""
        value = self._values[key]
        stored = self._stored.get(key)
        if stored is not None and (value is _UNREAD or value is self._constants.get(key, _UNREAD)):
            return stored
        return stored if stored is not None and is_same(value, stored) else dumps(key, value)

    def _write(self) -> None:
        has_content = self._login is not None or not self._values.keys() <= {_PERMANENT}
        if self._cleared and not has_content:
            self.end()
            return
        texts = {key: self._text(key) for key in self._values}
        if self._id is not None and not self._starts_new_session:
            self._update(self._id, texts)
        elif has_content:
            if not self._starts_new_session:
                self._assert_not_moved()
            self._create(texts)
        self._stored = {key: texts[key] for key in self._values}
        self._constants = {}
        self._login = None
        self._cleared = self._rotated = False

    def _check_size(self, texts: dict[str, str]) -> None:
        sizes = {key: len(key) + len(text) for key, text in texts.items()}
        if sum(sizes.values()) > self._store.max_bytes:
            largest = max(sizes, key=lambda key: sizes[key])
            raise SessionTooLarge(
                f"the session has {sum(sizes.values())} bytes, {sizes[largest]} of them in session[{largest!r}]; the"
                f" limit is {self._store.max_bytes}: store such data elsewhere, or raise SESSION_MAX_BYTES"
            )

    def _create(self, texts: dict[str, str]) -> None:
        self._check_size(texts)
        self._assert_cookie_can_be_set()
        login = self._login
        new_id = make_id(beside=index_name(login.user) if login else self._id)
        self._created = self._store.create(new_id, texts, self._id, login)
        self._id, self._written = new_id, True
        if login:
            self._store.observer.logged_in()
        self._user, self._handle = (login.user, login.handle) if login else (None, None)

    def _update(self, session_id: str, texts: dict[str, str]) -> None:
        changed = {key: text for key, text in texts.items() if self._stored.get(key) != text}
        deleted = self._stored.keys() - texts.keys()
        if changed:
            self._check_size(texts)
        if self._rotated:
            self._assert_cookie_can_be_set()
            new_id, previous = make_id(beside=session_id), session_id
        else:
            new_id, previous = session_id, None
        added = self._added_messages(changed)
        others = {key: text for key, text in changed.items() if key not in added}
        if (changed or deleted or previous) and not self._store.update(new_id, others, deleted, previous, added):
            self._recreate(session_id, changed)
            return
        self._written = self._written or bool(changed or deleted or previous)
        if previous:
            self._store.observer.rotated()
        self._id = new_id

    def _added_messages(self, changed: Mapping[str, str]) -> dict[str, str]:
        """Return the messages that this request has flashed, as a list for the store to add: another may flash, too."""
        before, text = self._stored.get(_FLASHES, "[]"), changed.get(_FLASHES, "[]")
        start = "[" if before == "[]" else before[:-1] + ","
        is_extended = start[0] == "[" and text != "[]" and text.startswith(start)
        return {_FLASHES: "[" + text[len(start) :]} if is_extended else {}

    def _assert_cookie_can_be_set(self) -> None:
        if self._response_begun:
            raise RuntimeError(
                "the response has begun, so the client can't get the cookie of a new session: start, rotate or log in"
                " the session before the view returns"
            )

    def _is_changed(self, key: str) -> bool:
        text = self._text(key) if key in self._values else None
        return text != self._stored.get(key)

    def _assert_not_moved(self) -> None:
        """Refuse to create a session for a client that has just got another id: its cookie would replace that id."""
        if self._cookie_id and not self._ended and self._store.gone(self._cookie_id) == "moved":
            raise self._refused(SessionMoved())

    def _recreate(self, session_id: str, changed: dict[str, str]) -> None:
        """Save the changes of this request in a new session if the session was anonymous and has just expired."""
        gone = self._store.gone(session_id)
        if gone == "moved":
            raise self._refused(SessionMoved())
        if gone or self._user is not None:
            raise self._refused(SessionEnded())
        self._id = self._created = None
        self._stored, self._constants = changed, {}
        self._values = {key: self._values[key] for key in changed}
        if changed:
            self._create(changed)

    def _refused(self, error: SessionEnded) -> SessionEnded:
        self._store.observer.conflicted()
        self._forget()
        self._ended = False  # keep the cookie: another request may have just set a newer id
        return error

    def _forget(self) -> None:
        self._id = self._created = self._user = self._handle = self._login = None
        self._values, self._stored, self._constants = {}, {}, {}
        self._loaded = self._ended = True
        self._cleared = self._rotated = False

    @contextmanager
    def _recording_failure(self) -> Iterator[None]:
        """After a failure, save() must do nothing: Flask calls it again for the error response."""
        try:
            yield
        except SessionEnded:  # there are no changes left to save
            raise
        except Exception as error:
            self._failure = error
            raise
