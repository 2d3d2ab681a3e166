"""Bounds what logins may take of a process."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock

from werkzeug.exceptions import ServiceUnavailable


class Turnstile:
    """Lets one thread pass at a time, so that the memory for one hash is enough, and a few wait."""

    def __init__(self, threads: int):
        """threads: so many may be in it; the others are left to visitors who are logged in."""
        self._places = BoundedSemaphore(threads)
        self._gate = Lock()

    @contextmanager
    def passage(self) -> Iterator[None]:
        """Raises ServiceUnavailable at once if all places are taken."""
        if not self._places.acquire(blocking=False):
            raise ServiceUnavailable("Many people are logging in. Please try again in a moment.", retry_after=1)
        try:
            with self._gate:
                yield
        finally:
            self._places.release()
