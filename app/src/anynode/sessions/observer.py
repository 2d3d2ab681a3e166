"""What the session layer tells those who count. No user, id or handle is ever told."""


class Observer:
    """Takes no notice; a subclass overrides what it wants to know of. Called by all threads, and must not raise."""

    def used(self, found: bool | None) -> None:
        """A request that used the session is over: it came with one, without one, or (None) the store didn't say."""

    def rejected(self) -> None:
        """A visitor brought what can't be an id; the store wasn't asked."""

    def unknown(self) -> None:
        """A visitor brought an id that the store doesn't know, or doesn't know any more."""

    def logged_in(self) -> None:
        """A session became a user's."""

    def rotated(self) -> None:
        """A session got a new id, and nothing else about it changed."""

    def ended(self, cause: str, number: int = 1) -> None:
        """So many sessions were deleted. Those that idle out, or reach their lifetime, do so unseen."""

    def conflicted(self) -> None:
        """Nothing was written, since the session had ended elsewhere meanwhile."""

    def took(self, step: str, seconds: float) -> None:
        """The store was asked for one step, successfully or not."""

    def failed(self, kind: str) -> None:
        """The store couldn't do a step: "timeout", "connection", "error_reply", "newer_format"."""

    def refused(self) -> None:
        """The store wasn't asked, since it had failed several times in a row."""
