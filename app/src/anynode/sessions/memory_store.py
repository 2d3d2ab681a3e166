"""Sessions in the memory of one process. Not for use: it is the negative control of the checks."""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from .store import Record


@dataclass
class _Entry:
    created: float
    idles_out: float = 0
    texts: dict[str, str] = field(default_factory=dict)


class MemoryStore:
    """A `Store` that no other process, and so no other node, can see.

    It exists to show what shared sessions mend: with it, who logs in on one node is a stranger on the next.
    idle, lifetime: seconds, as in RedisStore. clock: seconds since 1970.
    """

    def __init__(self, *, idle: float, lifetime: float, clock: Callable[[], float] = time.time):
        self._idle = idle
        self._lifetime = lifetime
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def read(self, session_id: str) -> Record | None:
        with self._lock:
            entry = self._alive(session_id)
            return entry and Record(dict(entry.texts), int(entry.created * 1000))

    def create(self, session_id: str, texts: Mapping[str, str], replaces: str | None = None) -> int:
        with self._lock:
            self._entries.pop(replaces, None)
            now = self._clock()
            entry = self._entries[session_id] = _Entry(now, now + self._idle, dict(texts))
            return int(entry.created * 1000)

    def update(
        self, session_id: str, texts: Mapping[str, str], deleted: Collection[str], previous: str | None = None
    ) -> bool:
        with self._lock:
            entry = self._alive(previous or session_id)
            if entry is None:
                return False
            if previous:
                self._entries[session_id] = self._entries.pop(previous)
            for key in deleted:
                entry.texts.pop(key, None)
            entry.texts.update(texts)
            return True

    def increment(self, session_id: str, key: str, by: int) -> int | None:
        with self._lock:
            entry = self._alive(session_id)
            if entry is None:
                return None
            try:
                value = int(entry.texts.get(key, "0")) + by
            except ValueError as error:
                raise TypeError("can't increment a value that isn't an integer") from error
            entry.texts[key] = str(value)
            return value

    def delete(self, session_id: str) -> None:
        with self._lock:
            self._entries.pop(session_id, None)

    def ping(self) -> None:
        """Memory always answers."""

    def _alive(self, session_id: str) -> _Entry | None:
        """The entry, kept from idling out; one whose time has come is dropped. Call with the lock held."""
        now = self._clock()
        entry = self._entries.get(session_id)
        if entry and now >= min(entry.idles_out, entry.created + self._lifetime):
            del self._entries[session_id]
            return None
        if entry:
            entry.idles_out = now + self._idle
        return entry
