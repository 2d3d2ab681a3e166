"""Bounds what logins may take of a process."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock

from werkzeug.exceptions import ServiceUnavailable


class Busy(ServiceUnavailable):
    """503 with Retry-After: as many log in as may."""

    def __init__(self) -> None:
        super().__init__("Many people are logging in. Please try again in a moment.", retry_after=1)


class HashQueue:
    """Lets one thread pass at a time, so that the memory for one hash is enough, and a few wait."""

    def __init__(self, threads: int):
        """threads: so many may be in it; the others are left to visitors who are logged in."""
        self._places = BoundedSemaphore(threads)
        self.gate = Lock()  # who has a place computes a hash while holding it, and does nothing else

    @contextmanager
    def place(self) -> Iterator[None]:
        """Raises Busy at once if all are taken."""
        if not self._places.acquire(blocking=False):
            raise Busy
        try:
            yield
        finally:
            self._places.release()
