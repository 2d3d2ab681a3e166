"""Session ids: 32 random bytes as 43 URL-safe characters (Base64 without padding)."""

import hashlib
import re
import secrets

_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}")

# So many characters of an id choose the slot of its key in a Redis Cluster. A rotated id keeps them, so that
# old and new key may meet in one script; the other 41 characters (over 240 bits) are new.
SLOT_CHARACTERS = 2


def make_id(beside: str | None = None) -> str:
    """A new id; `beside` another one, its key lands in the same cluster slot."""
    fresh = secrets.token_urlsafe(32)
    return fresh if beside is None else beside[:SLOT_CHARACTERS] + fresh[SLOT_CHARACTERS:]


def is_id(text: str) -> bool:
    """Whether a cookie has the exact shape of an id; nothing else is worth asking the store for."""
    return _SHAPE.fullmatch(text) is not None


def digest(session_id: str) -> str:
    """What stands for an id wherever it is kept or logged: who reads it there can't log in with it."""
    return hashlib.sha256(session_id.encode("ascii")).hexdigest()
