"""Stops calls to a store that doesn't answer, so that threads don't wait for it again and again."""

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Breaker:
    """A circuit breaker for the threads of a process.

    After `failures` failures in a row it opens: it refuses calls except a probe every `pause` seconds. The first
    successful call closes it.
    clock: returns monotonic seconds.
    """

    # After the store has recovered, a call is admitted within 1.4 s in each process: a probe that started just before
    # may fail after 3 timeouts of 0.3 s (connect, AUTH, command), and a pause follows.

    def __init__(self, *, failures: int = 3, pause: float = 0.5, clock: Callable[[], float] = time.monotonic):
        self._limit = failures
        self._pause = pause
        self._clock = clock
        self._failures = 0
        self._next_probe = 0.0
        self._lock = threading.Lock()

    def admits(self) -> bool:
        """Return whether the call may be made. Report the result by failed() or succeeded()."""
        if self._failures < self._limit:
            return True
        with self._lock:
            now = self._clock()
            if now < self._next_probe:
                return False
            self._next_probe = now + self._pause  # this call is the probe; if it never reports, another follows
            return True

    def failed(self) -> None:
        """The store didn't answer."""
        with self._lock:
            self._failures += 1
            self._next_probe = self._clock() + self._pause
            if self._failures == self._limit:
                _log.error("session store: %d failures in a row, circuit breaker opened", self._limit)

    def succeeded(self) -> None:
        """The store answered, even if with an error."""
        if not self._failures:
            return
        with self._lock:
            if self._failures >= self._limit:
                _log.warning("session store: answers again, circuit breaker closed")
            self._failures = 0
