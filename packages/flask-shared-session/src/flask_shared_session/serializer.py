"""Session values as JSON text. Unlike pickle, reading them can't run code."""

import json
from collections.abc import Iterable
from typing import Any


def dumps(key: str, value: Any) -> str:
    """Return the JSON text of session[key].

    Tuples become lists. Raises TypeError that names key and type if JSON can't represent the value.
    """
    _check(key, value)
    try:
        return _encode(value)
    except ValueError as error:  # NaN and infinities
        raise TypeError(f"session[{key!r}] holds a float that JSON can't hold: {error}") from error


def loads(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError or RecursionError if `dumps` can't have written it."""
    return _decode(text)


def _check(key: str, value: Any, inside: tuple[int, ...] = ()) -> None:
    """Raise TypeError if JSON can't represent the value."""
    if not isinstance(key, str):
        raise TypeError(f"session[{key!r}]: a session key must be str, not {type(key).__name__}")
    # Markup would become a plain str, and a page would show its tags
    if value is None or isinstance(value, (str, int, float)) and not hasattr(value, "__html__"):
        return
    if id(value) in inside:
        raise TypeError(f"session[{key!r}] holds a {type(value).__name__} that contains itself")
    inside += (id(value),)
    children: Iterable[Any]
    if isinstance(value, dict):
        # json would convert such a key to a string, and the app wouldn't find it again
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"session[{key!r}] holds a dict with a {type(name).__name__} key; JSON allows only str")
        children = value.values()
    elif isinstance(value, (list, tuple)):
        children = value
    else:
        raise TypeError(f"session[{key!r}] holds a {type(value).__name__}, which JSON can't hold")
    for child in children:
        _check(key, child, inside)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# created once: json.dumps() and json.loads() would create these for every value
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
