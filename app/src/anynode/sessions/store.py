"""What the session layer asks of a store. Values are JSON texts here; a store never decodes them."""

from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol


class Record(NamedTuple):
    """A session as the store has it."""

    texts: dict[str, str]  # session key -> JSON text
    created: int  # milliseconds since 1970, by the store's clock


class Store(Protocol):
    """Keeps sessions until they idle for too long, reach their lifetime, or are deleted.

    Each method is one atomic step and raises SessionStoreError when the store can't do it.
    """

    def read(self, session_id: str) -> Record | None:
        """The session, or None. Keeps it from idling out. ValueError if what is there isn't one."""

    def create(self, session_id: str, texts: Mapping[str, str], replaces: str | None = None) -> int:
        """Make a session with its whole life ahead, delete the one it replaces. Returns `Record.created`."""

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

    def delete(self, session_id: str) -> None:
        """End a session; no matter if it is gone already."""

    def ping(self) -> None:
        """Raise SessionStoreError unless the store answers."""
