"""Session ids and handles, which can't be guessed, and their cluster slots.

A session id is SLOT_CHARACTERS that determine the slot of the session's key in a Redis Cluster, then 32 random bytes
as 43 URL-safe characters (Base64 without padding).
"""

import base64
import hashlib
import re
import secrets

# The session of a user has the slot of the user's index, so that a script can update both; and a rotated id keeps its
# slot, so that a script can rename the key.
SLOT_CHARACTERS = 2
INDEX_CHARACTERS = 22  # 128 bits: two users never share an index

_ID = re.compile(r"[A-Za-z0-9_-]{45}")
_HANDLE = re.compile(r"[A-Za-z0-9_-]{30}")


def make_id(beside: str | None = None) -> str:
    """Return a new session id. beside: a session id or an index name with the same cluster slot; None: any slot."""
    return slot_of(beside or secrets.token_urlsafe(SLOT_CHARACTERS)) + secrets.token_urlsafe(32)


def slot_of(name: str) -> str:
    """Return the characters that determine the cluster slot of a session (by id) or an index (by name)."""
    return name[:SLOT_CHARACTERS]


def is_id(text: str) -> bool:
    """Return whether a cookie's value has the exact format of an id. The store isn't queried for other values."""
    return _ID.fullmatch(text) is not None


def digest(session_id: str) -> str:
    """Return the hash that replaces an id in the store and in logs: reading it there allows no login."""
    return hashlib.sha256(session_id.encode("ascii")).hexdigest()


def index_name(user: str) -> str:
    """Return the name of the index of a user's sessions."""
    return base64.urlsafe_b64encode(hashlib.sha256(user.encode()).digest())[:INDEX_CHARACTERS].decode()


def make_handle(user: str) -> str:
    """Return a new public name for a session of this user. It identifies the session, but gives no access to it."""
    return index_name(user) + secrets.token_urlsafe(6)


def is_handle(text: str) -> bool:
    """Return whether this has the exact format of a handle."""
    return _HANDLE.fullmatch(text) is not None
