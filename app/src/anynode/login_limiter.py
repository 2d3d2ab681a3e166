"""Limits failed logins. The counts are in Redis, so all nodes share the limits.

docs/explanation/login-limiter.md explains the rules.
"""

import hashlib
import ipaddress
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.resources import files
from math import ceil
from secrets import token_hex
from typing import Any, NamedTuple

from flask_shared_session import RedisStore
from werkzeug.exceptions import TooManyRequests

from .hash_queue import Busy

_Slot = Callable[[], AbstractContextManager[None]]
_LEASE_MS = 10_000  # far longer than the waiting logins of a process take to compute their hashes
_RETRY_SECONDS = 3
_POLL_SECONDS = 0.05


class Limits(NamedTuple):
    """The number of failed attempts that are allowed within `window`; window and pause are in seconds."""

    window: int
    client: int
    address: int
    account: int
    pause: int


class LoginLimitError(TooManyRequests):
    """429 with Retry-After. The response is the same for accounts that don't exist."""

    def __init__(self, milliseconds: int):
        seconds = ceil(milliseconds / 1000)
        wait = f"{ceil(seconds / 60)} minutes" if seconds > 120 else f"{seconds} s"
        super().__init__(f"Too many failed logins. Please try again in {wait}.", retry_after=seconds)


class NoLoginLimiter:
    """Refuses no attempt: for sessions in memory, where no store is shared that could count."""

    def check(
        self, account: str, address: str, device: str | None, verify: Callable[[], bool], slot: _Slot = nullcontext
    ) -> bool:
        with slot():
            return verify()


class LoginLimiter(NoLoginLimiter):
    """Counts failed attempts by account and client, by address, and by account."""

    def __init__(self, store: RedisStore, prefix: str, limits: Limits):
        """store: its connections and circuit breaker are used. prefix: of the names of all keys."""
        self._call: Callable[[list[str], Sequence[str | int]], Any] = store.script(
            "login", (files(__package__) / "login.lua").read_text()
        )
        self._prefix = prefix
        self._settings = [limits.window * 1000, _LEASE_MS, limits.pause * 1000, *limits[1:4]]

    def check(
        self, account: str, address: str, device: str | None, verify: Callable[[], bool], slot: _Slot = nullcontext
    ) -> bool:
        """Return verify() if the limits allow another attempt, and count the result.

        The attempt is counted in Redis before verify() is called, so that parallel attempts can't exceed a limit.

        account: user name. address: IP address of the client. device: id of a device cookie for this account, None
        without a valid cookie. verify: returns whether the password is correct. slot: context manager that is held
        while verify() runs and while this waits for attempts in progress; if it raises Busy, the attempt isn't counted.
        Raises LoginLimitError, SessionStoreError, Busy.
        """
        network = network_of(address)
        options = [
            [self._key("client", account, network), self._key("address", network), self._key("account", account)]
        ]
        if device:
            options.insert(0, [self._key("browser", account, device)])
        name = token_hex(8)
        keys, wait = self._begin(options, name)
        try:
            with slot():
                deadline = time.monotonic() + _RETRY_SECONDS
                while wait < 0:
                    if time.monotonic() > deadline:
                        raise LoginLimitError(1000)
                    time.sleep(_POLL_SECONDS)
                    keys, wait = self._begin(options, name)
                is_correct = verify()
                self._call(keys, ["right" if is_correct else "wrong", name, *self._settings])
                return is_correct
        except Busy:
            if wait == 0:
                self._call(keys, ["withdrawn", name, *self._settings])
            raise

    def _begin(self, options: list[list[str]], name: str) -> tuple[list[str], int]:
        """The keys that count this attempt, and 0, or -1 to retry soon. Raises LoginLimitError."""
        for keys in options:
            wait = int(self._call(keys, ["begin", name, *self._settings]))
            if wait <= 0:
                return keys, wait
        raise LoginLimitError(wait)

    def _key(self, kind: str, *parts: str) -> str:
        # hashed to a fixed length, as clients choose the parts; the braces put all keys into the same cluster slot
        return f"{self._prefix}{{login}}:{kind}:{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"


def network_of(address: str) -> str:
    """Return the addresses that a client may own: the /64 network of an IPv6 address, else the address itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return str(parsed) if parsed.version == 4 else str(ipaddress.IPv6Network((int(parsed), 64), strict=False))
