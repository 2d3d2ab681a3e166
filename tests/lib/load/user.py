"""A user that knows the expected value of its counter."""

import random
import time
from typing import Any

from .client import Client, RequestFailed, Response
from .tally import Tally

POST_SHARE = 0.3


class User:
    """Logs in, then increments and reads its counter, and detects wrong responses."""

    def __init__(self, client: Client, account: dict[str, str], tally: Tally):
        """account: the JSON of a login. tally: counts the results."""
        self.client = client
        self.is_busy = False
        self._account = account
        self._tally = tally
        self._reset()

    def _reset(self) -> None:
        self._low = self._high = 0  # possible values of the counter; they differ while the result of a POST is unknown
        self._written: dict[int, float] = {}  # the time at which each value was acknowledged
        self._since = time.time()

    async def log_in(self) -> Response:
        """Log in and return the response, with any status. Raises RequestFailed."""
        response = await self.client.request("POST", "/api/login", self._account)
        if response.status == 200:
            self._reset()
        return response

    async def act(self) -> None:
        """Send a request, verify and count the response."""
        self.is_busy = True
        started = time.monotonic()
        response = None
        method = "login" if not self.client.cookie else "POST" if random.random() < POST_SHARE else "GET"
        try:
            if method == "login":
                response = await self.log_in()
            elif method == "POST":
                response = await self.client.request("POST", "/api/counter", {})
            else:
                response = await self.client.request("GET", "/api/session")
            failure = _failure(method, response)
        except RequestFailed as failed:
            failure = failed.kind
        if failure == "logged out":
            self.client.cookie = None
            self._tally.lost_session(self._since)
        elif failure is None and method != "login" and response:
            failure = self._verify(response.body.get("counter"), method == "POST")
        elif method == "POST":
            self._high += 1
        self._tally.add(method, failure, started, response.headers if response else {})
        self.is_busy = False

    def _verify(self, counter: Any, has_written: bool) -> str | None:
        """The failure that the counter of a successful response shows, or None."""
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


def _failure(method: str, response: Response) -> str | None:
    """The failure that the status shows; None for a success."""
    if 200 <= response.status < 300:
        return None
    if response.status == 401 and method != "login":
        return "logged out"
    if response.status == 503 and "Retry-After" in response.headers:
        return "503 announced"
    return str(response.status)
