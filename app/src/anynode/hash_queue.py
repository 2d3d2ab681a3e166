"""Limits the threads and the memory that logins may use in a process."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock

from werkzeug.exceptions import ServiceUnavailable


class Busy(ServiceUnavailable):
    """503 with Retry-After: the process already handles as many logins at once as it may."""

    def __init__(self) -> None:
        super().__init__("Too many logins at the moment. Please try again in a moment.", retry_after=1)


class HashQueue:
    """Computes a single password hash at a time, to limit the memory. A few threads may wait."""

    def __init__(self, threads: int):
        """threads: the number of threads that may compute or wait; the others keep serving logged-in users."""
        self._slots = BoundedSemaphore(threads)
        self.lock = Lock()  # hold a slot first, and do nothing but compute a hash while holding the lock

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot in the block. Raises Busy at once if none is free."""
        if not self._slots.acquire(blocking=False):
            raise Busy
        try:
            yield
        finally:
            self._slots.release()
