"""The interface of session stores. Values are JSON texts, which a store never decodes."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from .observer import Observer

PER_USER = 10  # default limit of sessions per user
NOTHING: Mapping[str, str] = {}
MAX_BYTES = 2**20  # default limit of a session's size
MAX_CONNECTIONS = 32  # default limit for each process


class Record(NamedTuple):
    """A stored session."""

    texts: dict[str, str]  # session key -> JSON text
    created: int  # milliseconds since 1970, by the store's clock
    user: str | None = None
    handle: str | None = None  # public name of a session with a user; unlike the id, it never changes


class Login(NamedTuple):
    """The user of a session, its handle, and the client address, User-Agent and node of the login."""

    user: str
    handle: str
    address: str
    agent: str
    node: str


class SessionInfo(NamedTuple):
    """A session as shown to its user. Times are by the store's clock."""

    handle: str
    created: datetime
    seen: datetime  # last use; may lag by a tenth of the idle time
    address: str
    agent: str
    node: str


class Counts(NamedTuple):
    """Numbers of sessions and users."""

    sessions: int
    logged_in: int  # sessions with a user
    users: int


class Store(Protocol):
    """Keeps sessions until they expire (idle time, lifetime) or are deleted.

    Each method is an atomic step. Each raises SessionStoreError if the store is unavailable.
    """

    observer: Observer  # receives the events of store and sessions
    lifetime: float  # seconds after which a session ends in any case
    max_bytes: int  # limit of the JSON texts of a session

    def read(self, session_id: str) -> Record | None:
        """Return the session, None if it doesn't exist. Resets its idle time. Raises ValueError if it is invalid."""

    def gone(self, session_id: str) -> str:
        """Return "moved" if another id has replaced this session within the last minute, "ended" if it was ended, "" if
        it exists, has expired or is unknown.
        """

    def create(
        self, session_id: str, texts: Mapping[str, str], replaces: str | None = None, login: Login | None = None
    ) -> int:
        """Create a session with a new lifetime, delete the session that it replaces. Returns `Record.created`.

        If the user of the login then has too many sessions, the user's oldest session ends.
        """

    def update(
        self,
        session_id: str,
        texts: Mapping[str, str],
        deleted: Collection[str],
        previous: str | None = None,
        added: Mapping[str, str] = NOTHING,
    ) -> bool:
        """Set and delete fields of an existing session; with `previous`, rename it from that id first.

        added: JSON texts of lists, by which the lists of these fields are extended. Returns False and writes nothing if
        the session doesn't exist.
        """

    def increment(self, session_id: str, key: str, by: int) -> int | None:
        """Add to an integer field; a missing field counts as 0. Returns the sum, None if the session doesn't exist.

        Raises TypeError if the field isn't an integer.
        """

    def delete(self, session_id: str, handle: str | None = None) -> bool:
        """End a session. With its handle, it is found even if it has another id now. Returns whether it existed."""

    def sessions_of(self, user: str) -> list[SessionInfo]:
        """Return the user's sessions, the oldest first."""

    def end_session(self, handle: str, user: str | None = None) -> bool:
        """End the session with this handle if it belongs to the user (None: any user). Returns whether it existed."""

    def end_sessions(self, user: str, but: str | None = None) -> int:
        """End all sessions of a user except the session with the handle `but`. Returns their number."""

    def end_everything(self) -> int:
        """End all sessions, with and without a user. Returns their number. Not atomic, and slow with many sessions."""

    def count(self) -> Counts:
        """Return the current numbers. Not atomic, and slow with many sessions."""

    def ping(self) -> None:
        """Raise SessionStoreError unless sessions can be written."""


def as_moment(milliseconds: int) -> datetime:
    """Return milliseconds since 1970 as an aware datetime."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
