"""What the session layer asks of a store. Values are JSON texts here; a store never decodes them."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from .observer import Observer

PER_USER = 10  # sessions that a user may have at once, unless a store is told otherwise


class Record(NamedTuple):
    """A session as the store has it."""

    texts: dict[str, str]  # session key -> JSON text
    created: int  # milliseconds since 1970, by the store's clock
    user: str | None = None  # whose it is
    handle: str | None = None  # its public name, there if it has a user; other than the id, it never changes


class Login(NamedTuple):
    """Whose a session is to be, and from where, with what and on which node it began."""

    user: str
    handle: str
    address: str
    agent: str
    node: str


class SessionInfo(NamedTuple):
    """What a user may know of one of the own sessions. Moments are by the store's clock."""

    handle: str
    created: datetime
    seen: datetime  # when it was last used; may lag behind by a tenth of the idle time
    address: str
    agent: str
    node: str


class Counts(NamedTuple):
    """How many there are."""

    sessions: int
    logged_in: int  # sessions that have a user
    users: int


class Store(Protocol):
    """Keeps sessions until they idle for too long, reach their lifetime, or are deleted.

    Each method is one atomic step and raises SessionStoreError when the store can't do it.
    """

    observer: Observer  # is told what the store does, and what is done with its sessions
    lifetime: float  # seconds after which a session ends in any case

    def read(self, session_id: str) -> Record | None:
        """The session, or None. Keeps it from idling out. ValueError if what is there isn't one."""

    def create(
        self, session_id: str, texts: Mapping[str, str], replaces: str | None = None, login: Login | None = None
    ) -> int:
        """Make a session with its whole life ahead, delete the one it replaces. Returns `Record.created`.

        If that is one more than the user of the login may have, the user's oldest one ends.
        """

    def update(
        self, session_id: str, texts: Mapping[str, str], deleted: Collection[str], previous: str | None = None
    ) -> bool:
        """Set and delete fields of a session that still exists; with `previous`, move it from that id first.

        Returns False, and writes nothing, if the session is gone.
        """

    def increment(self, session_id: str, key: str, by: int) -> int | None:
        """Add to an integer field (a missing one counts as 0). None if the session is gone.

        Raises TypeError if the field holds something else.
        """

    def delete(self, session_id: str, handle: str | None = None) -> bool:
        """End a session, with its handle also if it has another id by now. Whether there was one."""

    def sessions_of(self, user: str) -> list[SessionInfo]:
        """The user's sessions, the oldest first."""

    def end_session(self, handle: str, user: str | None = None) -> bool:
        """End the session with this handle if it is the user's (None: anyone's). Whether there was one."""

    def end_sessions(self, user: str, but: str | None = None) -> int:
        """End all sessions of a user but the one with this handle. Returns how many."""

    def end_everything(self) -> int:
        """End all sessions of all users, and nobody's. Returns how many. Not atomic, and slow if there are many."""

    def count(self) -> Counts:
        """What there is now. Not atomic, and slow if there are many."""

    def ping(self) -> None:
        """Raise SessionStoreError unless sessions can be written."""


def as_moment(milliseconds: int) -> datetime:
    """Milliseconds since 1970 as an aware datetime."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
