"""Checks of arguments: a wrong value is an error of the app, which names argument, value and remedy.

Without them, such a value would fail in the store's client, and count as a failure of the store.
"""

from typing import Any

LEAST, MOST = -(2**63), 2**63 - 1  # the integers of Redis


def text(name: str, value: Any, *, may_be_empty: bool = True) -> str:
    """Return a text argument. Raises TypeError, or ValueError if it can't be stored."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}: convert it")
    if not value and not may_be_empty:
        raise ValueError(f"{name} is empty: pass the name of a user")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds half of a surrogate pair, which UTF-8 can't represent: remove it") from None
    return str(value)


def optional_text(name: str, value: Any) -> str:
    """Return a text argument, "" for None, which request.remote_addr is behind some servers."""
    return "" if value is None else text(name, value)


def integer(name: str, value: Any) -> int:
    """Return an integer argument of 64 bits. Raises TypeError or ValueError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be int, not {type(value).__name__}: round it, or store the value yourself")
    if not LEAST <= value <= MOST:
        raise ValueError(f"{name} is {value}, which has more than 64 bits: store the value yourself")
    return int(value)


def seconds(name: str, value: Any) -> float:
    """Return a duration of at least a millisecond. Raises TypeError or ValueError."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not 0.001 <= value <= 2**40:
        raise ValueError(f"{name} is {value}: use a number of seconds above 0.001")
    return value


def count(name: str, value: Any) -> int:
    """Return a number of at least 1. Raises TypeError or ValueError."""
    if integer(name, value) < 1:
        raise ValueError(f"{name} is {value}: use 1 or more")
    return int(value)
