"""Session values as JSON text. Unlike pickle, reading them can't run code."""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from . import arguments

# What can be written must be readable, also with less of the stack left.
MAX_DEPTH = 100


def dumps(key: str, value: Any) -> str:
    """Return the JSON text of session[key].

    Tuples become lists, lazy translations and Markup become plain texts. Raises TypeError that names key and type if
    JSON can't represent the value.
    """
    _check(key, value)
    try:
        return _encode(value)
    except ValueError as error:  # NaN and infinities
        raise TypeError(f"session[{key!r}] holds a float that JSON can't hold: {error}") from error


def is_same(value: Any, text: str) -> bool:
    """Return whether a value has this JSON text. Much faster than dumps(), which checks each part of the value."""
    try:
        return _encode(value) == text
    except (TypeError, ValueError, RecursionError):
        return False  # dumps() has the message


def loads(text: str) -> Any:
    """Return the value of a JSON text.

    Raises ValueError if `dumps` can't have written it, and RecursionError if the caller's stack is nearly exhausted.
    """
    try:
        return _decode(text)
    except RecursionError:
        if _depth(text) > MAX_DEPTH:
            raise ValueError("too deeply nested") from None
        raise


def _depth(text: str) -> int:
    """Return how deeply lists and dicts are nested in a JSON text."""
    depth = deepest = 0
    for bracket in re.findall(r"[][{}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _check(key: str, value: Any, inside: tuple[int, ...] = ()) -> None:
    """Raise TypeError if JSON can't represent the value."""
    if not isinstance(key, str):
        raise TypeError(f"session[{key!r}]: a session key must be str, not {type(key).__name__}")
    if not key.isascii():
        arguments.text(f"session[{key!r}]: the key", key)
    if value is None or isinstance(value, (str, int, float)) or _is_text(value):
        return
    if id(value) in inside:
        raise TypeError(f"session[{key!r}] holds a {type(value).__name__} that contains itself")
    if len(inside) >= MAX_DEPTH:
        raise TypeError(
            f"session[{key!r}] is nested in more than {MAX_DEPTH} levels: store it elsewhere, or flatten it"
        )
    inside += (id(value),)
    children: Iterable[Any]
    if isinstance(value, dict):
        # json would convert such a key to a string, and the app wouldn't find it again
        for name in value:
            if not isinstance(name, str):
                raise TypeError(
                    f"session[{key!r}] holds a dict with a {type(name).__name__} key; JSON allows only str:"
                    f" use str({name!r})"
                )
        children = value.values()
    elif isinstance(value, (list, tuple)):
        children = value
    else:
        raise TypeError(
            f"session[{key!r}] holds a {type(value).__name__}, which JSON can't hold: store its str() or isoformat()"
        )
    for child in children:
        _check(key, child, inside)


def _is_text(value: Any) -> bool:
    """Return whether a value stands for its text: a lazy translation, or an object that a template shows as HTML."""
    kind = type(value)
    return hasattr(kind, "__html__") or kind.__name__.lstrip("_") in ("LazyString", "LazyProxy")


def _text_of(value: Any) -> str:
    # For the encoder, after _check: only texts of other types are left.
    return str(value)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large for a float")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# created once: json.dumps() and json.loads() would create these for every value
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_text_of).encode
_decode = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).decode
