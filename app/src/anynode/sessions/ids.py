"""Names that nobody guesses, and which cluster slot they lead to.

A session id is SLOT_CHARACTERS that choose the slot of the session's key in a Redis Cluster, then 32 random bytes as
43 URL-safe characters (Base64 without padding).
"""

import base64
import hashlib
import re
import secrets

# A session that has a user has the slot of the user's index, so that one script may keep both; and a rotated id stays
# in its slot, so that old and new key may meet in one script.
SLOT_CHARACTERS = 2
INDEX_CHARACTERS = 22  # 128 bits: no two users share an index

_ID = re.compile(r"[A-Za-z0-9_-]{45}")
_HANDLE = re.compile(r"[A-Za-z0-9_-]{30}")


def make_id(beside: str | None = None) -> str:
    """A new id; `beside` another one or an index's name, its key lands in the same cluster slot."""
    return slot_of(beside or secrets.token_urlsafe(SLOT_CHARACTERS)) + secrets.token_urlsafe(32)


def slot_of(name: str) -> str:
    """What chooses the slot of the session with this id, or of the index with this name."""
    return name[:SLOT_CHARACTERS]


def is_id(text: str) -> bool:
    """Whether a cookie has the exact shape of an id; nothing else is worth asking the store for."""
    return _ID.fullmatch(text) is not None


def digest(session_id: str) -> str:
    """What stands for an id wherever it is kept or logged: who reads it there can't log in with it."""
    return hashlib.sha256(session_id.encode("ascii")).hexdigest()


def index_name(user: str) -> str:
    """The name of the index of a user's sessions."""
    return base64.urlsafe_b64encode(hashlib.sha256(user.encode()).digest())[:INDEX_CHARACTERS].decode()


def make_handle(user: str) -> str:
    """A new public name of a session of this user: it tells where to look for it, and opens nothing."""
    return index_name(user) + secrets.token_urlsafe(6)


def is_handle(text: str) -> bool:
    """Whether this has the exact shape of a handle."""
    return _HANDLE.fullmatch(text) is not None
