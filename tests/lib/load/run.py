"""Many visitors at a common pace, until it is enough."""

import asyncio
import random
import ssl
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, NamedTuple

from .client import Answer, Broken, Client
from .tally import Tally
from .visitor import Visitor

LOGINS_AT_ONCE = 2  # a password's hash costs a node a quarter of a second of CPU
PROGRESS_SECONDS = 10
UNDER_WAY = "load: under way"  # how the line begins that says that all are logged in and the load begins


class Plan(NamedTuple):
    """What is asked for. rate: requests per second of all visitors together. seconds: at most; timeout: a request's."""

    url: str
    account: dict[str, str]
    visitors: int
    rate: float
    requests: int
    seconds: float
    until_told: bool
    timeout: float
    tls: ssl.SSLContext | None


class CannotStart(Exception):
    """Says who is the culprit, and the remedy."""


class Run:
    """`go()` ends when the requests are made and, if the plan says so, it was told that they are enough."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._is_told = not plan.until_told
        self._end = asyncio.Event()
        self._tally = Tally()

    def tell(self) -> None:
        """The requests that were asked for are enough now."""
        self._is_told = True
        self._end_if_enough()

    def stop(self) -> None:
        """What was sent is enough; what is under way is waited for."""
        self._end.set()

    async def go(self) -> tuple[dict, list[dict]]:
        """The result and the timeline, see Tally. Raises CannotStart."""
        plan = self._plan
        clients = [Client(plan.url, bool(n % 2), plan.tls, plan.timeout) for n in range(plan.visitors)]
        try:
            visitors = [Visitor(client, plan.account, self._tally) for client in clients]
            await self._log_in(visitors)
            self._tally.begin()
            _say(f"{UNDER_WAY}: {plan.visitors} visitors are logged in at {plan.url}")
            await self._visit(visitors)
        finally:
            for client in clients:
                await client.close()
        result = self._tally.result()
        asked = {name: getattr(plan, name) for name in ("url", "visitors", "rate")} | {"requests_asked": plan.requests}
        retried = sum((client.retried for client in clients), Counter())
        is_complete = result["requests"] >= plan.requests
        return asked | result | {"retried": retried, "complete": is_complete}, self._tally.timeline()

    async def _log_in(self, visitors: list[Visitor]) -> None:
        for first in range(0, len(visitors), LOGINS_AT_ONCE):
            await asyncio.gather(*map(self._log_in_one, visitors[first : first + LOGINS_AT_ONCE]))
        # the first ones are the first to be logged out, if a user may not have so many sessions
        if (await self._first(visitors[0].client.ask("GET", "/api/session"))).status == 401:
            raise CannotStart(
                f"{len(visitors)} logins, and the first of them is no longer logged in: a user may not have so many "
                "sessions. Raise app_sessions_per_user above that, or ask for fewer --visitors."
            )

    async def _log_in_one(self, visitor: Visitor) -> None:
        answer = await self._first(visitor.log_in())
        user = self._plan.account["username"]
        if answer.status == 401:
            raise CannotStart(f"The password of {user!r} is wrong, says {self._plan.url}: see --user, --password-file.")
        if answer.status != 200 or not visitor.client.cookie:
            said = answer.body.get("error", "nothing")
            raise CannotStart(
                f"POST {self._plan.url}/api/login was answered by status {answer.status}, and it said: {said!r}. "
                "Mend that first, or the URL, if that isn't an Anynode."
            )

    async def _first(self, request: Coroutine[Any, Any, Answer]) -> Answer:
        try:
            return await request
        except Broken as broken:
            cause = f": {broken.__cause__}" if str(broken.__cause__) else ""
            raise CannotStart(
                f"{self._plan.url} doesn't answer ({broken}{cause}). Start it, or mend the URL; for TLS see --ca."
            ) from broken

    async def _visit(self, visitors: list[Visitor]) -> None:
        async with asyncio.TaskGroup() as group:
            going = [(visitor, group.create_task(self._come_and_go(visitor))) for visitor in visitors]
            await self._wait()
            self.stop()
            for visitor, task in going:
                if not visitor.is_busy:
                    task.cancel()

    async def _wait(self) -> None:
        """Until the end, with a line of progress now and then."""
        last = time.monotonic() + self._plan.seconds
        while not self._end.is_set() and (left := last - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, PROGRESS_SECONDS)):
                    await self._end.wait()
            _say(self._tally.progress())

    async def _come_and_go(self, visitor: Visitor) -> None:
        interval = self._plan.visitors / self._plan.rate
        due = time.monotonic() + random.random() * interval
        while not self._end.is_set():
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
                self._tally.own_lag = max(self._tally.own_lag, time.monotonic() - due)
            await visitor.act()
            self._end_if_enough()
            # uneven, lest each visitor always meets the same node; who had to wait doesn't hurry afterwards
            due = max(due + interval * random.uniform(0.5, 1.5), time.monotonic())

    def _end_if_enough(self) -> None:
        if self._is_told and self._tally.requests >= self._plan.requests:
            self._end.set()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
