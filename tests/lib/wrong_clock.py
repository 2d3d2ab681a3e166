"""gunicorn by a clock that is wrong: wrong_clock.py SECONDS ARGUMENT...

Python's own clocks are set, as libfaketime would make some of Python's waits hang.
"""

import datetime
import sys
import time

from gunicorn.app.wsgiapp import run

SHIFT = int(sys.argv.pop(1))


def shifted(clock, by):
    return lambda: clock() + by


class WrongDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=SHIFT)

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.UTC).replace(tzinfo=None)


time.time = shifted(time.time, SHIFT)
time.time_ns = shifted(time.time_ns, SHIFT * 10**9)
time.monotonic = shifted(time.monotonic, SHIFT)
datetime.datetime = WrongDatetime
run()
