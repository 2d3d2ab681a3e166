"""Sessions in the memory of a process. Not for production: it is the negative control of the session check."""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from . import arguments
from .observer import Observer
from .store import MAX_BYTES, NOTHING, PER_USER, Counts, Login, Record, SessionInfo, as_moment

GONE_SECONDS = 60  # as in life.lua


@dataclass
class _Entry:
    created: float
    seen: float
    texts: dict[str, str]
    login: Login | None


class MemoryStore:
    """A `Store` that other processes, and so other nodes, can't read.

    It demonstrates the need for shared sessions: a login on a node is unknown on other nodes.
    idle, lifetime (seconds), per_user: as in RedisStore. clock: returns seconds since 1970.
    """

    observer = Observer()  # no metrics

    def __init__(
        self,
        *,
        idle: float,
        lifetime: float,
        per_user: int = PER_USER,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ):
        arguments.seconds("idle", idle)
        arguments.seconds("lifetime", lifetime)
        arguments.count("per_user", per_user)
        self.max_bytes = arguments.count("max_bytes", max_bytes)
        self._idle = idle
        self.lifetime = lifetime
        self._per_user = per_user
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._gone: dict[str, tuple[float, str]] = {}  # when and how a session went, by id
        self._lock = threading.Lock()

    def read(self, session_id: str) -> Record | None:
        with self._lock:
            entry = self._alive(session_id)
            if entry is None:
                return None
            user, handle = entry.login[:2] if entry.login else (None, None)
            return Record(dict(entry.texts), int(entry.created * 1000), user, handle)

    def gone(self, session_id: str) -> str:
        with self._lock:
            self._drop_expired()
            return self._gone.get(session_id, (0, ""))[1]

    def create(
        self, session_id: str, texts: Mapping[str, str], replaces: str | None = None, login: Login | None = None
    ) -> int:
        with self._lock:
            if replaces:
                self._remove(replaces, "moved")
            now = self._clock()
            if login:
                own = self._ids_of(login.user)
                for each in own[: max(0, len(own) + 1 - self._per_user)]:
                    self._remove(each, "ended")
            self._entries[session_id] = _Entry(now, now, dict(texts), login)
            return int(now * 1000)

    def update(
        self,
        session_id: str,
        texts: Mapping[str, str],
        deleted: Collection[str],
        previous: str | None = None,
        added: Mapping[str, str] = NOTHING,
    ) -> bool:
        with self._lock:
            entry = self._alive(previous or session_id)
            if entry is None:
                return False
            if previous:
                self._remove(previous, "moved")
                self._entries[session_id] = entry
            for key in deleted:
                entry.texts.pop(key, None)
            for key, text in added.items():
                current = entry.texts.get(key, "[]")
                entry.texts[key] = text if current == "[]" else f"{current[:-1]},{text[1:]}"
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
            arguments.integer("the sum", value)
            entry.texts[key] = str(value)
            return value

    def delete(self, session_id: str, handle: str | None = None) -> bool:
        with self._lock:
            ended = self._remove(session_id, "ended")
        return ended or handle is not None and self.end_session(handle)

    def sessions_of(self, user: str) -> list[SessionInfo]:
        with self._lock:
            entries = [self._entries[each] for each in self._ids_of(user)]
        return [
            SessionInfo(
                each.login.handle,
                as_moment(int(each.created * 1000)),
                as_moment(int(each.seen * 1000)),
                *each.login[2:],
            )
            for each in entries
            if each.login
        ]

    def end_session(self, handle: str, user: str | None = None) -> bool:
        return self._end(lambda login: login and login.handle == handle and user in (None, login.user)) > 0

    def end_sessions(self, user: str, but: str | None = None) -> int:
        return self._end(lambda login: login and login.user == user and login.handle != but)

    def end_everything(self) -> int:
        return self._end(lambda login: True)

    def count(self) -> Counts:
        with self._lock:
            self._drop_expired()
            users = [each.login.user for each in self._entries.values() if each.login]
            return Counts(len(self._entries), len(users), len(set(users)))

    def ping(self) -> None:
        """Never fails."""

    def _end(self, is_selected: Callable[[Login | None], object]) -> int:
        with self._lock:
            self._drop_expired()
            selected = [each for each, entry in self._entries.items() if is_selected(entry.login)]
            for each in selected:
                self._remove(each, "ended")
            return len(selected)

    # The following methods require that the lock is held

    def _remove(self, session_id: str, kind: str) -> bool:
        """Remove a session, and keep for a while how it went."""
        removed = self._entries.pop(session_id, None) is not None
        if removed:
            self._gone[session_id] = self._clock(), kind
        return removed

    def _alive(self, session_id: str) -> _Entry | None:
        """The entry if it hasn't expired; resets its idle time."""
        self._drop_expired()
        entry = self._entries.get(session_id)
        if entry:
            entry.seen = self._clock()
        return entry

    def _ids_of(self, user: str) -> list[str]:
        """The user's sessions, the oldest first."""
        self._drop_expired()
        own = {each: entry for each, entry in self._entries.items() if entry.login and entry.login.user == user}
        return sorted(own, key=lambda each: own[each].created)

    def _drop_expired(self) -> None:
        now = self._clock()
        self._gone = {each: gone for each, gone in self._gone.items() if gone[0] > now - GONE_SECONDS}
        for each, entry in list(self._entries.items()):
            if now >= min(entry.seen + self._idle, entry.created + self.lifetime):
                del self._entries[each]
