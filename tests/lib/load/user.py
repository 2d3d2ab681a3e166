"""A visitor who knows what their counter must be."""

import random
import time

from .client import Answer, Broken, Client
from .tally import Tally

POST_SHARE = 0.3


class Visitor:
    """Logs in, then counts and looks, and notices if an answer isn't what it must be."""

    def __init__(self, client: Client, account: dict, tally: Tally):
        self.client = client
        self.is_busy = False
        self._account = account
        self._tally = tally
        self._forget()

    def _forget(self) -> None:
        self._low = self._high = 0  # what the counter may be; they differ while the fate of a POST is unknown
        self._written: dict[int, float] = {}  # when each value was acknowledged
        self._since = time.time()

    async def log_in(self) -> Answer:
        """Raises Broken; whether the answer is a good one is for the caller to see."""
        answer = await self.client.ask("POST", "/api/login", self._account)
        if answer.status == 200:
            self._forget()
        return answer

    async def act(self) -> None:
        """One request, judged and counted."""
        self.is_busy = True
        began = time.monotonic()
        answer = None
        method = "login" if not self.client.cookie else "POST" if random.random() < POST_SHARE else "GET"
        try:
            if method == "login":
                answer = await self.log_in()
            elif method == "POST":
                answer = await self.client.ask("POST", "/api/counter", {})
            else:
                answer = await self.client.ask("GET", "/api/session")
            failure = _failure(method, answer)
        except Broken as broken:
            failure = broken.kind
        if failure == "logged out":
            self.client.cookie = None
            self._tally.lost_session(self._since)
        elif failure is None and method != "login":
            failure = self._judge(answer.body.get("counter"), method == "POST")
        elif method == "POST":
            self._high += 1
        self._tally.add(method, failure, began, answer.headers if answer else {})
        self.is_busy = False

    def _judge(self, counter: object, has_written: bool) -> str | None:
        """What is wrong with the counter of a good answer, or None."""
        if not isinstance(counter, int):
            self._high += has_written
            return "not understood"
        low, high = self._low + has_written, self._high + has_written
        self._low = self._high = counter
        if counter < low:
            lost = [self._written.pop(each) for each in range(counter + 1 - has_written, low) if each in self._written]
            self._tally.lost_writes(low - counter, min(lost, default=self._since))
        elif counter > high:
            self._tally.doubled_writes += counter - high
        else:
            self._tally.unacknowledged_but_kept += counter - low
        if has_written:
            self._written[counter] = time.time()
        return "lost write" if counter < low else "doubled write" if counter > high else None


def _failure(method: str, answer: Answer) -> str | None:
    """The name of what an answer's status says; None if it is a good one."""
    if 200 <= answer.status < 300:
        return None
    if answer.status == 401 and method != "login":
        return "logged out"
    if answer.status == 503 and "Retry-After" in answer.headers:
        return "503 announced"
    return str(answer.status)
