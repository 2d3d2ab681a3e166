"""Many users at a common rate, until enough requests were made."""

import asyncio
import random
import ssl
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, NamedTuple

from .client import Client, RequestFailed, Response
from .tally import Tally
from .user import User

CONCURRENT_LOGINS = 2  # computing a password hash takes a node a quarter of a second of CPU time
PROGRESS_SECONDS = 10
STARTED = "load: started"  # start of the line that reports that all users are logged in


class Plan(NamedTuple):
    """The requested load. rate: requests per second of all users together. seconds: the maximum. timeout: seconds."""

    url: str
    account: dict[str, str]
    users: int
    rate: float
    requests: int
    seconds: float
    until_sigterm: bool
    timeout: float
    tls: ssl.SSLContext | None


class StartError(Exception):
    """The load can't start. The message names the cause and the remedy."""


class Run:
    """`go()` ends when the requests were made and, if the plan requires it, after `finish()` was called."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._may_end = not plan.until_sigterm
        self._end = asyncio.Event()
        self._tally = Tally()

    def finish(self) -> None:
        """End as soon as the planned number of requests was made."""
        self._may_end = True
        self._end_if_enough()

    def stop(self) -> None:
        """End now, after waiting for requests in progress."""
        self._end.set()

    async def go(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Run the load. Returns the result and the timeline, see Tally. Raises StartError."""
        plan = self._plan
        clients = [Client(plan.url, bool(n % 2), plan.tls, plan.timeout) for n in range(plan.users)]
        try:
            users = [User(client, plan.account, self._tally) for client in clients]
            await self._log_in(users)
            self._tally.start()
            _print(f"{STARTED}: {plan.users} users are logged in at {plan.url}")
            await self._send_requests(users)
        finally:
            for client in clients:
                await client.close()
        result = self._tally.result()
        planned = {name: getattr(plan, name) for name in ("url", "users", "rate")}
        planned["requests_planned"] = plan.requests
        retried = sum((client.retried for client in clients), Counter[str]())
        is_complete = result["requests"] >= plan.requests
        return planned | result | {"retried": retried, "complete": is_complete}, self._tally.timeline()

    async def _log_in(self, users: list[User]) -> None:
        for first in range(0, len(users), CONCURRENT_LOGINS):
            await asyncio.gather(*map(self._log_in_user, users[first : first + CONCURRENT_LOGINS]))
        # with too low a limit of sessions per user, the first session has ended
        if (await self._first(users[0].client.request("GET", "/api/session"))).status == 401:
            raise StartError(
                f"After {len(users)} logins the first session has ended: the limit of sessions per user is too low. "
                "Raise app_sessions_per_user above that, or use fewer --users."
            )

    async def _log_in_user(self, user: User) -> None:
        response = await self._first(user.log_in())
        name = self._plan.account["username"]
        if response.status == 401:
            raise StartError(f"{self._plan.url} refused the password of {name!r}: see --username, --password-file.")
        if response.status != 200 or not user.client.cookie:
            message = response.body.get("error", "")
            raise StartError(
                f"POST {self._plan.url}/api/login was answered with status {response.status}: {message!r}. "
                "Fix that first, or the URL, if that isn't an Anynode."
            )

    async def _first(self, request: Coroutine[Any, Any, Response]) -> Response:
        try:
            return await request
        except RequestFailed as failure:
            cause = f": {failure.__cause__}" if str(failure.__cause__) else ""
            raise StartError(
                f"{self._plan.url} doesn't answer ({failure}{cause}). Start it, or fix the URL; for TLS see --ca."
            ) from failure

    async def _send_requests(self, users: list[User]) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [(user, group.create_task(self._act(user))) for user in users]
            await self._wait()
            self.stop()
            for user, task in tasks:
                if not user.is_busy:
                    task.cancel()

    async def _wait(self) -> None:
        """Wait for the end, and report progress."""
        last = time.monotonic() + self._plan.seconds
        while not self._end.is_set() and (left := last - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, PROGRESS_SECONDS)):
                    await self._end.wait()
            _print(self._tally.progress())

    async def _act(self, user: User) -> None:
        interval = self._plan.users / self._plan.rate
        due = time.monotonic() + random.random() * interval
        while not self._end.is_set():
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
                self._tally.own_lag = max(self._tally.own_lag, time.monotonic() - due)
            await user.act()
            self._end_if_enough()
            # irregular, so that a user doesn't always reach the same node; after a long wait it doesn't catch up
            due = max(due + interval * random.uniform(0.5, 1.5), time.monotonic())

    def _end_if_enough(self) -> None:
        if self._may_end and self._tally.requests >= self._plan.requests:
            self._end.set()


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
