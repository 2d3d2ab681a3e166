"""gunicorn with a wrong clock: wrong_clock.py SECONDS ARGUMENT...

It replaces Python's clocks: with libfaketime, some waits in Python never return.
"""

import datetime
import sys
import time
from collections.abc import Callable
from typing import Any

from gunicorn.app.wsgiapp import run

SHIFT = int(sys.argv.pop(1))


def shifted(clock: Callable[[], Any], by: int) -> Callable[[], Any]:
    return lambda: clock() + by


class WrongDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return super().now(tz) + datetime.timedelta(seconds=SHIFT)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(datetime.UTC).replace(tzinfo=None)


time.time = shifted(time.time, SHIFT)
time.time_ns = shifted(time.time_ns, SHIFT * 10**9)
time.monotonic = shifted(time.monotonic, SHIFT)
datetime.datetime = WrongDatetime  # type: ignore[misc] # replaces the class for the whole process
run()
