"""The options of the extension: SESSION_* in app.config, or in the environment."""

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from .probe import KEY_CHARACTERS
from .store import MAX_BYTES, MAX_CONNECTIONS, PER_USER

PORTS = {"redis": 6379, "sentinel": 26379, "cluster": 6379}
KINDS = {
    "redis": ("redis", False),
    "rediss": ("redis", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "memory": ("memory", False),
}
URLS = (
    "redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss:// with TLS, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE,"
    " redis+cluster://HOST:PORT,HOST:PORT or, in tests, memory://"
)
_DAY = 86_400


class SettingError(ValueError):
    """An option is missing or invalid; the message has its name, the problem and the remedy, never a password."""


@dataclass(frozen=True)
class RedisURL:
    """A parsed SESSION_REDIS_URL.

    kind: "redis", "sentinel", "cluster" or "memory". hosts: names or addresses with ports. database: of a single Redis.
    service: the name by which Sentinel knows the primary.
    """

    kind: str
    tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()
    username: str | None = None
    password: str | None = None
    database: int = 0
    service: str = ""

    @classmethod
    def parse(cls, text: str) -> "RedisURL":
        """Return the parts of a URL. Raises ValueError with a message that doesn't contain the URL."""
        try:
            parts = urlsplit(text)
        except ValueError:  # its message has parts of the URL, such as the password
            raise ValueError(f"has an invalid host, or characters that must be encoded (%XX): use {URLS}") from None
        if parts.scheme not in KINDS:
            raise ValueError(f"has no known scheme: use {URLS}")
        if parts.query or parts.fragment:
            raise ValueError("has a query or a fragment: remove it; encode ? and # in a password as %3F and %23")
        kind, tls = KINDS[parts.scheme]
        path = unquote(parts.path.removeprefix("/"))
        if kind == "memory":
            if parts.netloc or path:
                raise ValueError("names a host: use memory:// alone")
            return cls("memory")
        hosts = _hosts(parts, PORTS[kind])
        if kind != "sentinel" and path and not (kind == "redis" and path.isdecimal()):
            raise ValueError("ends in a path: only a single Redis has one, which is the number of a database")
        if kind == "sentinel" and not path:
            raise ValueError("lacks the service name: use redis+sentinel://HOST:PORT,HOST:PORT/SERVICE")
        if kind == "redis" and len(hosts) > 1:
            raise ValueError("names several hosts: use redis+sentinel:// or redis+cluster://")
        credentials = parts.netloc.rpartition("@")[0]
        username, _colon, password = credentials.partition(":")
        return cls(
            kind,
            tls,
            hosts,
            unquote(username) or None,
            unquote(password) or None,
            int(path) if kind == "redis" and path else 0,
            path if kind == "sentinel" else "",
        )


def _hosts(parts: SplitResult, default_port: int) -> tuple[tuple[str, int], ...]:
    found = []
    for each in parts.netloc.rpartition("@")[2].split(","):
        try:
            host = urlsplit(f"//{each}")
            found.append((host.hostname or "", default_port if host.port is None else host.port))
        except ValueError:
            raise ValueError("has an invalid host or port: use HOST or HOST:PORT") from None
    if not all(port for _host, port in found):
        raise ValueError("has port 0: use a port from 1 to 65535")
    if not all(host for host, _port in found):
        raise ValueError(f"lacks a host: use {URLS}")
    return tuple(found)


@dataclass(frozen=True)
class Settings:
    """The options, converted. Durations are in seconds."""

    redis_url: RedisURL
    ca_file: str | None
    prefix: str
    idle_seconds: int
    lifetime_seconds: int
    per_user: int
    max_bytes: int
    max_connections: int
    acknowledge: int
    probe_key: str | None

    @classmethod
    def read(cls, config: Mapping[str, Any], name: str, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Return the options of an app.

        config: app.config, which takes precedence over environ. name: of the app, the default of the prefix.
        Raises SettingError.
        """

        def option(key: str, convert: Callable[[Any], Any], default: Any = None) -> Any:
            value = config.get(key)
            value = environ.get(key) if value is None else value
            if value is None or value == "":
                value = default
            try:
                return convert(value)
            except ValueError as error:
                raise SettingError(f"{key} {error}") from None

        settings = cls(
            redis_url=option("SESSION_REDIS_URL", _url),
            ca_file=option("SESSION_REDIS_CA_FILE", _ca_file),
            prefix=option("SESSION_PREFIX", _prefix, f"{name}:"),
            idle_seconds=option("SESSION_IDLE_SECONDS", _whole(1, 366 * _DAY), 1800),
            lifetime_seconds=option("SESSION_LIFETIME_SECONDS", _whole(1, 3660 * _DAY), 8 * 3600),
            per_user=option("SESSION_PER_USER", _whole(1, 1_000_000), PER_USER),
            max_bytes=option("SESSION_MAX_BYTES", _whole(1, 2**29), MAX_BYTES),
            max_connections=option("SESSION_MAX_CONNECTIONS", _whole(1, 10_000), MAX_CONNECTIONS),
            acknowledge=option("SESSION_ACKNOWLEDGE", _whole(0, 10), 0),
            probe_key=option("SESSION_PROBE_KEY", _key),
        )
        if settings.lifetime_seconds < settings.idle_seconds:
            raise SettingError(
                f"SESSION_LIFETIME_SECONDS is {settings.lifetime_seconds}, less than SESSION_IDLE_SECONDS"
                f" ({settings.idle_seconds}): raise it, or lower the other"
            )
        if settings.acknowledge and settings.redis_url.kind not in ("redis", "sentinel"):
            raise SettingError(
                "SESSION_ACKNOWLEDGE needs replicas of a single Redis or of Sentinel: unset it, or use redis+sentinel://"
            )
        if settings.ca_file and not settings.redis_url.tls:
            raise SettingError("SESSION_REDIS_CA_FILE is set, but SESSION_REDIS_URL has no TLS: use rediss://")
        return settings


def _url(value: Any) -> RedisURL:
    if value is None:
        raise ValueError(f"is missing: set it to {URLS}")
    if not isinstance(value, str):
        raise ValueError(f"has type {type(value).__name__}: use a text such as {URLS}")
    return RedisURL.parse(value)


def _ca_file(value: Any) -> str | None:
    if value is None:
        return None
    try:
        ssl.create_default_context(cafile=value)
    except (OSError, TypeError) as error:
        raise ValueError(
            f"is {value!r}, which can't be read as certificates ({error}): name the file of the CA"
        ) from None
    return str(value)


def _prefix(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or set(value) & set("{}*?[]\\ "):
        raise ValueError(
            f"is {value!r}: use a text such as shop:, without blanks, braces and the characters * ? [ ] \\"
        )
    return value


def _key(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) < KEY_CHARACTERS):
        raise ValueError(f"is too short: use {KEY_CHARACTERS} random characters or more, or unset it")
    return value


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        try:
            number = None if isinstance(value, (bool, float)) else int(value)
        except (TypeError, ValueError):
            number = None
        if number is None or not least <= number <= most:
            raise ValueError(f"is {value!r}: use a whole number from {least} to {most}")
        return number

    return convert
