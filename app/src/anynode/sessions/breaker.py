"""Stops asking a store that doesn't answer, so that no thread waits for it over and over."""

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Breaker:
    """A circuit breaker for the threads of one process.

    After so many `failures` in a row, calls are refused but for one probe every `pause` seconds. The first call
    that succeeds ends that.
    """

    # When the store is well, a probe may just have begun in vain: to connect, log in and ask takes 3 timeouts of 0.3 s
    # at most, and then a pause, so that 1.4 s later a call is admitted, in each process for itself.

    def __init__(self, *, failures: int = 3, pause: float = 0.5, clock: Callable[[], float] = time.monotonic):
        self._limit = failures
        self._pause = pause
        self._clock = clock
        self._failures = 0
        self._next_probe = 0.0
        self._lock = threading.Lock()

    def admits(self) -> bool:
        """Whether the call may be made; report then how it went."""
        if self._failures < self._limit:
            return True
        with self._lock:
            now = self._clock()
            if now < self._next_probe:
                return False
            self._next_probe = now + self._pause  # this call is the probe; if it is never heard of, another follows
            return True

    def failed(self) -> None:
        """The store didn't answer."""
        with self._lock:
            self._failures += 1
            self._next_probe = self._clock() + self._pause
            if self._failures == self._limit:
                _log.error("session store: no answer %d times in a row, asking only now and then", self._limit)

    def succeeded(self) -> None:
        """The store answered, be it with an error."""
        if not self._failures:
            return
        with self._lock:
            if self._failures >= self._limit:
                _log.warning("session store: answers again")
            self._failures = 0
