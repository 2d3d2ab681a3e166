"""Events of the session layer, for metrics. They contain no user, id or handle."""


class Observer:
    """Ignores all events; subclasses override methods. Called from all threads. Methods must not raise."""

    def used(self, found: bool | None) -> None:
        """A request that used the session ended. found: whether its session existed; None: the store didn't answer."""

    def rejected(self) -> None:
        """A client sent a cookie that can't be an id; the store wasn't queried."""

    def unknown(self) -> None:
        """A client sent an id that isn't in the store (any more)."""

    def logged_in(self) -> None:
        """A session got a user."""

    def rotated(self) -> None:
        """A session got a new id without a login."""

    def ended(self, cause: str, number: int = 1) -> None:
        """`number` sessions were deleted. Expired sessions aren't reported."""

    def conflicted(self) -> None:
        """A write was refused because the session had ended meanwhile."""

    def took(self, step: str, seconds: float) -> None:
        """A step of the store took this time, whether it succeeded or failed."""

    def failed(self, kind: str) -> None:
        """A step of the store failed. kind: "timeout", "connection", "error_reply", "newer_format",
        "no_free_connection" (all connections of the process were in use) or "not_acknowledged" (by the replicas)."""

    def refused(self) -> None:
        """The circuit breaker refused a step after several failures in a row."""
