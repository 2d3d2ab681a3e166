"""Slows down who guesses passwords. Counted in Redis, so that all nodes count together; the rules: docs/login.md."""

import hashlib
import ipaddress
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.resources import files
from math import ceil
from secrets import token_hex
from typing import Any, NamedTuple

from werkzeug.exceptions import TooManyRequests

from .hash_queue import Busy
from .sessions import RedisStore

_Place = Callable[[], AbstractContextManager[None]]
_LEASE_MS = 10_000  # those who wait for their hash at one process take a fraction of it
_PATIENCE_SECONDS = 3
_POLL_SECONDS = 0.05


class Limits(NamedTuple):
    """How many failed tries are remembered against whom; durations are in seconds."""

    window: int
    client: int
    address: int
    account: int
    pause: int


class LoginRefused(TooManyRequests):
    """429 with Retry-After; says the same of accounts that don't exist."""

    def __init__(self, milliseconds: int):
        seconds = ceil(milliseconds / 1000)
        wait = f"{ceil(seconds / 60)} minutes" if seconds > 120 else f"{seconds} s"
        super().__init__(f"Too many failed logins. Please try again in {wait}.", retry_after=seconds)


class NoLoginLimiter:
    """Refuses nobody: for sessions in memory, where nothing is shared that could count."""

    def check(
        self, account: str, address: str, browser: str | None, is_right: Callable[[], bool], place: _Place = nullcontext
    ) -> bool:
        with place():
            return is_right()


class LoginLimiter(NoLoginLimiter):
    """Counts failed tries by account and client, by address, and by account."""

    def __init__(self, store: RedisStore, prefix: str, limits: Limits):
        """store: whose connections and circuit breaker are used. prefix: what the names of all keys begin with."""
        self._ask: Callable[[list[str], Sequence[str | int]], Any] = store.script(
            "login", (files(__package__) / "login.lua").read_text()
        )
        self._prefix = prefix
        self._settings = [limits.window * 1000, _LEASE_MS, limits.pause * 1000, *limits[1:4]]

    def check(
        self, account: str, address: str, browser: str | None, is_right: Callable[[], bool], place: _Place = nullcontext
    ) -> bool:
        """What `is_right()` says, if it may be asked; it is counted before, and told after that is known in Redis.

        browser: a name of the one that was logged in to this account before, None if it wasn't. place: what is held
        meanwhile, and while waiting; who is refused needs none, and who finds none, by Busy, isn't counted.
        Raises LoginRefused, SessionStoreError, Busy.
        """
        network = network_of(address)
        ways = [[self._key("client", account, network), self._key("address", network), self._key("account", account)]]
        if browser:
            ways.insert(0, [self._key("browser", account, browser)])
        name = token_hex(8)
        keys, wait = self._begin(ways, name)
        try:
            with place():
                give_up = time.monotonic() + _PATIENCE_SECONDS
                while wait < 0:
                    if time.monotonic() > give_up:
                        raise LoginRefused(1000)
                    time.sleep(_POLL_SECONDS)
                    keys, wait = self._begin(ways, name)
                found = is_right()
                self._ask(keys, ["right" if found else "wrong", name, *self._settings])
                return found
        except Busy:
            if wait == 0:
                self._ask(keys, ["withdrawn", name, *self._settings])
            raise

    def _begin(self, ways: list[list[str]], name: str) -> tuple[list[str], int]:
        """The keys that this is counted by, and 0, or -1 if it must be asked again. Raises LoginRefused."""
        for keys in ways:
            wait = int(self._ask(keys, ["begin", name, *self._settings]))
            if wait <= 0:
                return keys, wait
        raise LoginRefused(wait)

    def _key(self, kind: str, *parts: str) -> str:
        # of one length, whatever visitors send; the braces put all keys into one cluster slot, for the script
        return f"{self._prefix}{{login}}:{kind}:{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"


def network_of(address: str) -> str:
    """What one visitor may have many addresses of: the /64 of an IPv6 address; else the address itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return str(parsed) if parsed.version == 4 else str(ipaddress.IPv6Network((int(parsed), 64), strict=False))
