"""The session of one request: a mapping that asks the store when first used, and writes what was changed."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from flask.sessions import SessionMixin

from .errors import SessionEnded, SessionStoreError
from .ids import digest, make_id
from .serializer import dumps, loads
from .store import Store

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
        self._values: dict[str, Any] = {}
        self._stored: dict[str, str] = {}  # the JSON texts that the store has: what differs at the end was changed
        self._created: int | None = None
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
        """Empty the session. If nothing is put in again, it ends; with rotate(), a new one begins."""
        self._load().clear()
        self._cleared = True

    # What a session can do beyond that

    @property
    def created(self) -> datetime | None:
        """When the session began, by the store's clock; None before its first save."""
        self._load()
        return None if self._created is None else datetime.fromtimestamp(self._created / 1000, UTC)

    def rotate(self) -> None:
        """Give the session a new id when it is saved; the old one is dead from then on. Call it at login.

        Values and absolute expiry are kept, unless clear() was called as well: then a session with its whole
        lifetime ahead takes the place of the old one.
        """
        self._load()
        self._rotated = True

    def end(self) -> None:
        """Delete the session now, on all nodes; a request in flight elsewhere can't bring it back."""
        if self._id is not None:
            with self._asking():
                self._store.delete(self._id)
        self._forget()

    def increment(self, key: str, by: int = 1) -> int:
        """Add to an integer at once, and atomically between all nodes. Returns the sum; a missing one is 0.

        Raises SessionEnded if the session ended elsewhere, TypeError if session[key] isn't an integer.
        """
        values = self._load()
        if self._id is None or (self._cleared and self._rotated) or self._is_changed(key):
            # this request decides what the value will be, there is nothing to add to in the store
            value = values.get(key, 0)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"session[{key!r}] holds a {type(value).__name__}, can't increment it")
            values[key] = value + by
            return values[key]
        with self._asking():
            value = self._store.increment(self._id, key, by)
        if value is None:
            self._gone()
        values[key] = value
        self._stored[key] = dumps(key, value)
        return value

    def save(self) -> None:
        """Write what was changed. The interface does it after the view; before that, call it to be sure.

        Raises SessionEnded, and writes nothing, if the session ended elsewhere; TypeError if it isn't JSON.
        """
        if self._failure or not self._loaded:
            return
        with self._asking():
            self._write()

    @property
    def new_id(self) -> str | None:
        """The id that the visitor must be told, because another was brought, or none."""
        return self._id if self._id != self._brought else None

    @property
    def is_cookie_dead(self) -> bool:
        """Whether the visitor brought the id of a session that this request ended."""
        return self._ended and self._brought is not None and self._id is None

    def _load(self) -> dict[str, Any]:
        if isinstance(self._failure, SessionStoreError):
            raise SessionStoreError  # once is enough: don't let the visitor wait for the store again
        if not self._loaded:
            with self._asking():
                self._read()
            self._loaded = True
        return self._values

    def _read(self) -> None:
        try:
            record = self._store.read(self._id)
            texts = record.texts if record else {}
            values = {key: loads(text) for key, text in texts.items()}
        except (ValueError, RecursionError) as error:
            _log.warning("dropped an unreadable session, sha256 %s: %s", digest(self._id), type(error).__name__)
            self._store.delete(self._id)
            record = None
        if record is None:
            self._id = None
        else:
            self._values, self._stored, self._created = values, texts, record.created

    def _write(self) -> None:
        if self._cleared and not self._values:
            self.end()
            return
        texts = {key: dumps(key, value) for key, value in self._values.items()}
        if self._id is None or (self._cleared and self._rotated):
            if texts:
                fresh = make_id(beside=self._id)
                self._created = self._store.create(fresh, texts, replaces=self._id)
                self._id = fresh
        else:
            changed = {key: text for key, text in texts.items() if self._stored.get(key) != text}
            deleted = self._stored.keys() - texts.keys()
            if self._rotated:
                fresh, previous = make_id(beside=self._id), self._id
            else:
                fresh, previous = self._id, None
            if (changed or deleted or previous) and not self._store.update(fresh, changed, deleted, previous):
                self._gone()
            self._id = fresh
        self._stored = texts
        self._cleared = self._rotated = False

    def _is_changed(self, key: str) -> bool:
        text = dumps(key, self._values[key]) if key in self._values else None
        return text != self._stored.get(key)

    def _gone(self) -> None:
        self._forget()
        self._ended = False  # the cookie stays: another request may have just set it to a newer id
        raise SessionEnded

    def _forget(self) -> None:
        self._id = self._created = None
        self._values, self._stored = {}, {}
        self._loaded = self._ended = True
        self._cleared = self._rotated = False

    @contextmanager
    def _asking(self):
        """After a failure, save() does nothing: Flask calls it again while it answers the error."""
        try:
            yield
        except SessionEnded:  # nothing is left to save
            raise
        except Exception as error:
            self._failure = error
            raise
