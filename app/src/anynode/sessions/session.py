"""The session of one request: a mapping that asks the store when first used, and writes what was changed."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn

from flask.sessions import SessionMixin

from .errors import SessionEnded, SessionStoreError
from .ids import digest, index_name, make_handle, make_id
from .serializer import dumps, loads
from .store import Login, SessionInfo, Store, as_moment

AGENT_CHARACTERS = 256
_PERMANENT = "_permanent"  # where Flask keeps session.permanent
_log = logging.getLogger(__name__)


class Session(SessionMixin):
    """A mapping of str to JSON values. Used by one request, in one thread.

    Any use may raise SessionStoreError; every further use in the same request then does.
    """

    def __init__(self, store: Store, session_id: str | None):
        """session_id: the well-formed id that the visitor brought, if any."""
        self._store = store
        self._brought = session_id
        self._id = session_id  # None: the store has no such session
        self._loaded = session_id is None
        self._found = False if session_id is None else None  # None: not asked yet, or in vain
        self._values: dict[str, Any] = {}
        self._stored: dict[str, str] = {}  # the JSON texts that the store has: what differs at the end was changed
        self._was_permanent = False
        self._created: int | None = None
        self._user: str | None = None
        self._handle: str | None = None
        self._login: Login | None = None  # wanted, and not saved yet
        self._cleared = False
        self._rotated = False
        self._ended = False
        self._failure: Exception | None = None

    # The mapping; the rest of it (get, pop, update, ...) comes from MutableMapping

    def __getitem__(self, key: str) -> Any:
        return self._load()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._load()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._load()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())

    def clear(self) -> None:
        """Empty the session, which is nobody's then. If nothing is put in again, it ends.

        With rotate(), or if it had a user, a new one begins.
        """
        self._load().clear()
        self._cleared = True
        self._login = None

    @property
    def new(self) -> bool:  # type: ignore[override] # Flask has a plain attribute, but this takes a read
        """Whether the visitor brought no session that lives."""
        self._load()
        return not self._found

    @property
    def modified(self) -> bool:
        """Whether there is something to write. Changes of nested values are found too, so assigning does nothing."""
        return self._begins_anew or self._rotated or any(map(self._is_changed, self._stored.keys() | self._values))

    @modified.setter
    def modified(self, value: bool) -> None:
        pass

    # What a session can do beyond that

    @property
    def created(self) -> datetime | None:
        """When the session began, by the store's clock; None before its first save."""
        self._load()
        return None if self._created is None else as_moment(self._created)

    @property
    def user(self) -> str | None:
        """Whose session it is: who logged in with log_in()."""
        self._load()
        if self._login:
            return self._login.user
        return None if self._cleared else self._user

    @property
    def handle(self) -> str | None:
        """The session's public name, by which its user or an administrator may end it; None if it has no user."""
        self._load()
        if self._login:
            return self._login.handle
        return None if self._cleared else self._handle

    def log_in(self, user: str, *, address: str = "", agent: str = "", node: str = "") -> None:
        """Make the session this user's when it is saved: with a new id and its whole lifetime ahead.

        Values are kept, unless clear() was called as well or they are another user's; the old id is dead from then
        on. What is said of where, with what and on which node it began is for the user to see.
        """
        if self.user not in (None, user):
            self.clear()
        self._login = Login(user, make_handle(user), address, agent[:AGENT_CHARACTERS], node)

    def sessions(self) -> list[SessionInfo]:
        """All sessions of this session's user, the oldest first; none if it has no user."""
        user = self._saved_user()
        with self._asking():
            return self._store.sessions_of(user) if user is not None else []

    def end_session(self, handle: str) -> bool:
        """End one session of this session's user now, on all nodes. Whether the user had one with this handle."""
        user = self._saved_user()
        if user is None:
            return False
        if handle == self._handle:
            self.end()
            return True
        with self._asking():
            ended = self._store.end_session(handle, user)
        self._store.observer.ended("user", ended)
        return ended

    def end_others(self) -> int:
        """End all other sessions of this session's user now, on all nodes. Returns how many."""
        user = self._saved_user()
        if user is None:
            return 0
        with self._asking():
            ended = self._store.end_sessions(user, but=self._handle)
        self._store.observer.ended("others", ended)
        return ended

    def end_all(self, cause: str = "all") -> int:
        """End all sessions of this session's user now, on all nodes, this one too. Returns how many.

        cause: what counters call it; one of a few words, nothing that tells who.
        """
        user = self._saved_user()
        if user is None:
            return 0
        with self._asking():
            ended = self._store.end_sessions(user)
        self._store.observer.ended(cause, ended)
        self._forget()
        return ended

    def rotate(self) -> None:
        """Give the session a new id when it is saved; the old one is dead from then on.

        Call it when what the visitor may do changes; log_in() does it too.

        Values and absolute expiry are kept, unless clear() was called as well: then a session with its whole
        lifetime ahead takes the place of the old one.
        """
        self._load()
        self._rotated = True

    def end(self) -> None:
        """Delete the session now, on all nodes; a request in flight elsewhere can't bring it back."""
        if self._id is not None:
            with self._asking():
                ended = self._store.delete(self._id, self._handle)
            self._store.observer.ended("logout", ended)
            if not self._loaded:
                self._found = ended
                if not ended:
                    self._store.observer.unknown()
        self._forget()

    def increment(self, key: str, by: int = 1) -> int:
        """Add to an integer at once, and atomically between all nodes. Returns the sum; a missing one is 0.

        Raises SessionEnded if the session ended elsewhere, TypeError if session[key] isn't an integer.
        """
        values = self._load()
        if self._id is None or self._begins_anew or self._is_changed(key):
            # this request decides what the value will be, there is nothing to add to in the store
            value = values.get(key, 0)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"session[{key!r}] holds a {type(value).__name__}, can't increment it")
            values[key] = value + by
            return value + by
        with self._asking():
            total = self._store.increment(self._id, key, by)
        if total is None:
            self._gone()
        values[key] = total
        self._stored[key] = dumps(key, total)
        return total

    def save(self) -> None:
        """Write what was changed. The interface does it after the view; before that, call it to be sure.

        Raises SessionEnded, and writes nothing, if the session ended elsewhere; TypeError if it isn't JSON.
        """
        if self._failure or not self._loaded:
            return
        with self._asking():
            self._write()

    # What the interface asks when it answers the visitor

    @property
    def is_loaded(self) -> bool:
        """Whether this request used the session and the store answered."""
        return self._loaded

    @property
    def is_lasting(self) -> bool:
        """Whether the cookie shall outlive the browser's run: `permanent`, as it was saved."""
        return self._stored.get(_PERMANENT) == "true"

    @property
    def found(self) -> bool | None:
        """Whether the request came with a session; None if the store couldn't be asked, or wasn't yet."""
        return self._found

    @property
    def new_id(self) -> str | None:
        """The id that the visitor must be told: another was brought, or none, or its cookie lived for another time."""
        is_told = self._id == self._brought and self.is_lasting == self._was_permanent
        return None if is_told else self._id

    @property
    def is_cookie_dead(self) -> bool:
        """Whether the visitor brought the id of a session that this request ended."""
        return self._ended and self._brought is not None and self._id is None

    @property
    def _begins_anew(self) -> bool:
        """Whether another session takes the place of the one that is stored."""
        leaves_user = self._user is not None and self._cleared
        return self._login is not None or leaves_user or self._cleared and self._rotated

    def _saved_user(self) -> str | None:
        """Whose session it is in the store, where a login that this request wants must be first."""
        self._load()
        if self._login or self._cleared:
            self.save()
        return self._user

    def _load(self) -> dict[str, Any]:
        if isinstance(self._failure, SessionStoreError):
            raise SessionStoreError  # once is enough: don't let the visitor wait for the store again
        if not self._loaded:
            with self._asking():
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
            texts = record.texts if record else {}
            values = {key: loads(text) for key, text in texts.items()}
        except (ValueError, RecursionError) as error:
            _log.warning("dropped an unreadable session, sha256 %s: %s", digest(session_id), type(error).__name__)
            self._store.observer.ended("unreadable", self._store.delete(session_id))
            record = None
        self._found = record is not None
        if record is None:
            self._id = None
        else:
            self._values, self._stored = values, texts
            self._created, self._user, self._handle = record.created, record.user, record.handle
            self._was_permanent = self.is_lasting

    def _write(self) -> None:
        has_content = self._login is not None or not self._values.keys() <= {_PERMANENT}
        if self._cleared and not has_content:
            self.end()
            return
        texts = {key: dumps(key, value) for key, value in self._values.items()}
        if self._id is not None and not self._begins_anew:
            self._update(self._id, texts)
        elif has_content:
            self._create(texts)
        self._stored = texts
        self._login = None
        self._cleared = self._rotated = False

    def _create(self, texts: dict[str, str]) -> None:
        login = self._login
        fresh = make_id(beside=index_name(login.user) if login else self._id)
        self._created = self._store.create(fresh, texts, self._id, login)
        self._id = fresh
        if login:
            self._store.observer.logged_in()
        self._user, self._handle = (login.user, login.handle) if login else (None, None)

    def _update(self, session_id: str, texts: dict[str, str]) -> None:
        changed = {key: text for key, text in texts.items() if self._stored.get(key) != text}
        deleted = self._stored.keys() - texts.keys()
        if self._rotated:
            fresh, previous = make_id(beside=session_id), session_id
        else:
            fresh, previous = session_id, None
        if (changed or deleted or previous) and not self._store.update(fresh, changed, deleted, previous):
            self._gone()
        if previous:
            self._store.observer.rotated()
        self._id = fresh

    def _is_changed(self, key: str) -> bool:
        text = dumps(key, self._values[key]) if key in self._values else None
        return text != self._stored.get(key)

    def _gone(self) -> NoReturn:
        self._store.observer.conflicted()
        self._forget()
        self._ended = False  # the cookie stays: another request may have just set it to a newer id
        raise SessionEnded

    def _forget(self) -> None:
        self._id = self._created = self._user = self._handle = self._login = None
        self._values, self._stored = {}, {}
        self._loaded = self._ended = True
        self._cleared = self._rotated = False

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """After a failure, save() does nothing: Flask calls it again while it answers the error."""
        try:
            yield
        except SessionEnded:  # nothing is left to save
            raise
        except Exception as error:
            self._failure = error
            raise
