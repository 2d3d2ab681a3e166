"""The settings of a node: environment variables, validated before the app starts."""

import ipaddress
import json
import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# A text that consists of such words and of no others: a random secret may well contain "xxx". Same rule as preflight's,
# plugins/module_utils/anynode/validation/secrets.py; tests/unit/test_secret_rules.py compares the two.
_WORDS = """
    change me placeholder password passwort passwd secret example sample dummy default todo tbd fixme x{3,} replace
    insert enter put set your my our the this that is here please now random value key token string app redis admin
    chars? characters? long very at least with
"""
_PLACEHOLDERS = re.compile(rf"\A(<.*>|[^a-z]*(({'|'.join(_WORDS.split())})[^a-z]*)+)\Z", re.I)
_HASH = re.compile(r"(scrypt:\d+:\d+:\d+|pbkdf2:sha(?:1|256|512):\d+)\$[^$]+\$[0-9a-f]+")
_MAX_SECONDS = 365 * 24 * 3600


class ConfigError(ValueError):
    """Lists every missing or invalid variable with the remedy. Contains no secrets."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The validated settings. Durations are in seconds; the repr omits secrets."""

    node: str
    release: str
    deployment: str  # deployment id
    secret_key: str = field(repr=False)
    secret_key_fallbacks: list[str] = field(repr=False)  # verify signatures, but never sign
    users: Mapping[str, str] = field(repr=False)  # name -> werkzeug password hash
    session_store: str
    session_prefix: str
    session_idle_seconds: int
    session_lifetime_seconds: int
    sessions_per_user: int
    redis_host: str | None
    redis_port: int
    redis_username: str
    redis_password: str | None = field(repr=False)
    redis_ca_file: str  # CA certificates that verify Redis; empty: plain TCP
    cookie_secure: bool
    login_window_seconds: int
    login_failures: int
    login_address_failures: int
    login_account_failures: int
    login_pause_seconds: int
    login_threads: int
    trusted_proxies: frozenset[str]
    max_body_bytes: int
    metrics_dir: str  # where prometheus-client keeps the counters of all processes; empty: no metrics

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Config":
        """Read and validate the settings.

        environ: environment variables by name. Raises ConfigError that lists all invalid variables.
        """
        read = _Reader(environ)
        store = read("APP_SESSION_STORE", _one_of("redis", "memory"), "redis")
        is_redis = store != "memory"
        config = cls(
            node=read("APP_NODE", _name),
            release=read("APP_RELEASE", _name, "dev"),
            deployment=read("APP_DEPLOYMENT", _name, "none"),
            secret_key=read("APP_SECRET_KEY", _secret_key),
            secret_key_fallbacks=read("APP_SECRET_KEY_FALLBACKS", _secret_keys, ""),
            users=read("APP_USERS", _users),
            session_store=store,
            session_prefix=read("APP_SESSION_PREFIX", _prefix, "anynode:"),
            session_idle_seconds=read("APP_SESSION_IDLE_SECONDS", _whole(1, _MAX_SECONDS), "1800"),
            session_lifetime_seconds=read("APP_SESSION_LIFETIME_SECONDS", _whole(1, _MAX_SECONDS), "28800"),
            sessions_per_user=read("APP_SESSIONS_PER_USER", _whole(1, 1000), "10"),
            redis_host=read("APP_REDIS_HOST", _host) if is_redis else None,
            redis_port=read("APP_REDIS_PORT", _whole(1, 65535), "6379"),
            redis_username=read("APP_REDIS_USERNAME", _name, "app"),
            redis_password=read("APP_REDIS_PASSWORD", _secret) if is_redis else None,
            redis_ca_file=read("APP_REDIS_CA_FILE", _ca_file, ""),
            cookie_secure=read("APP_COOKIE_SECURE", _one_of("true", "false"), "true") == "true",
            login_window_seconds=read("APP_LOGIN_WINDOW_SECONDS", _whole(60, 24 * 3600), "900"),
            login_failures=read("APP_LOGIN_FAILURES", _whole(1, 1000), "10"),
            login_address_failures=read("APP_LOGIN_ADDRESS_FAILURES", _whole(1, 1000), "100"),
            login_account_failures=read("APP_LOGIN_ACCOUNT_FAILURES", _whole(1, 1000), "20"),
            login_pause_seconds=read("APP_LOGIN_PAUSE_SECONDS", _whole(1, 60), "30"),
            login_threads=read("APP_LOGIN_THREADS", _whole(1, 1000), "4"),
            trusted_proxies=read("APP_TRUSTED_PROXIES", _addresses, ""),
            max_body_bytes=read("APP_MAX_BODY_BYTES", _whole(1, 2**31), "65536"),
            metrics_dir=read("PROMETHEUS_MULTIPROC_DIR", _directory, ""),
        )
        if read.problems:
            raise ConfigError("\n  ".join(["invalid settings:", *read.problems]))
        return config


class _Reader:
    """Reads variables and collects all problems instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]):
        self._environ = environ
        self.problems: list[str] = []

    def __call__(self, name: str, check: Callable[[str], Any], default: str | None = None) -> Any:
        text = self._environ.get(name, default)
        try:
            if text is None:
                raise ValueError("is required: set it")
            return check(text)
        except ValueError as error:
            self.problems.append(f"{name} {error}")
            return None


# Checks convert a text into a value, or raise ValueError that names the problem and the remedy.


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", text):
        raise ValueError("must be 1 to 64 letters, digits and . _ + - (it is sent in a header): change it")
    return text


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", text):
        raise ValueError("must be a host name or an IP address: change it")
    return text


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", text):
        raise ValueError("must be 1 to 64 letters, digits and . _ : - (braces would set the cluster slot): change it")
    return text


def _secret(text: str) -> str:
    if not text:
        raise ValueError("is empty: set it to a secret, e.g. from `openssl rand -hex 32`")
    if _PLACEHOLDERS.search(text):
        raise ValueError("is a placeholder: replace it by a secret, e.g. from `openssl rand -hex 32`")
    return text


def _secret_key(text: str) -> str:
    if len(_secret(text)) < 32:
        raise ValueError("is shorter than 32 characters: create a key with `openssl rand -hex 32`")
    return text


def _secret_keys(text: str) -> list[str]:
    return [_secret_key(each) for each in text.split()]


def _users(text: str) -> dict[str, str]:
    try:
        users = json.loads(text)
    except ValueError:
        users = None
    if not isinstance(users, dict) or not users:
        raise ValueError('must be a non-empty JSON object of users, {"name": "password hash"}: change it')
    # names and hashes of users don't belong in logs: report only the number of invalid entries
    bad = sum(not (name and isinstance(each, str) and _is_hash(each)) for name, each in users.items())
    if bad:
        raise ValueError(
            f"has {bad} of {len(users)} entries without a name or without a scrypt or pbkdf2 hash that can be computed:"
            " create hashes with `make hash`"
        )
    return users


def _is_hash(text: str) -> bool:
    """Whether this is a hash that can be computed. Otherwise every login would fail, see Users.knows."""
    found = _HASH.fullmatch(text)
    if not found:
        return False
    kind, *numbers = found[1].split(":")
    if kind == "pbkdf2":
        return 0 < int(numbers[1]) < 2**31
    n, r, p = map(int, numbers)
    # at most 256 MiB, and within the maxmem limit of hashlib
    return n.bit_count() == 1 and n >= 128 and 0 < n * r <= 2**21 and 0 < n * r * p < 2**24


def _one_of(*choices: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}: change it")
        return text

    return check


def _whole(least: int, most: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise ValueError(f"must be a whole number from {least} to {most}: change it")
        return int(text)

    return check


def _directory(text: str) -> str:
    if text and not (os.path.isdir(text) and os.access(text, os.W_OK | os.X_OK)):
        raise ValueError("must be a directory that this process may write to: create it, or unset it for no metrics")
    return text


def _ca_file(text: str) -> str:
    try:
        if text:
            ssl.create_default_context(cafile=text)
    except OSError as error:  # of ssl, too
        raise ValueError(
            f"is {text}, which contains no certificate that this process can read ({error}): set it to the CA file of"
            " Redis, or unset it if Redis has no TLS"
        ) from None
    return text


def _addresses(text: str) -> frozenset[str]:
    try:
        return frozenset(str(ipaddress.ip_address(part.strip())) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("must be IP addresses separated by commas: change it") from None
