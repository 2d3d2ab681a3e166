"""Session values as JSON text: reading them can't run code, as unpickling would."""

import json
from collections.abc import Iterable
from typing import Any


def dumps(key: str, value: Any) -> str:
    """The JSON text of session[key].

    Tuples come back as lists. Raises TypeError, naming key and type, for what JSON can't hold.
    """
    _refuse_what_json_cannot_hold(key, value)
    try:
        return _encode(value)
    except ValueError as error:  # NaN and infinities
        raise TypeError(f"session[{key!r}] holds a float that JSON can't hold: {error}") from error


def loads(text: str) -> Any:
    """The value of a JSON text. Raises ValueError or RecursionError if it isn't one that `dumps` made."""
    return _decode(text)


def _refuse_what_json_cannot_hold(key: str, value: Any, inside: tuple[int, ...] = ()) -> None:
    if not isinstance(key, str):
        raise TypeError(f"session[{key!r}]: a session key must be str, not {type(key).__name__}")
    # Markup would come back as a plain str, and a page would show its tags
    if value is None or isinstance(value, (str, int, float)) and not hasattr(value, "__html__"):
        return
    if id(value) in inside:
        raise TypeError(f"session[{key!r}] holds a {type(value).__name__} that contains itself")
    inside += (id(value),)
    children: Iterable[Any]
    if isinstance(value, dict):
        # json would turn such a key into a string, and the app would not find it again
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"session[{key!r}] holds a dict with a {type(name).__name__} key; JSON allows only str")
        children = value.values()
    elif isinstance(value, (list, tuple)):
        children = value
    else:
        raise TypeError(f"session[{key!r}] holds a {type(value).__name__}, which JSON can't hold")
    for child in children:
        _refuse_what_json_cannot_hold(key, child, inside)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# made once: json.dumps() and json.loads() would make these for every value
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
