"""Who may log in, and who is logged in."""

from collections.abc import Mapping
from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Any

from flask import abort, current_app, request
from werkzeug.security import check_password_hash

from .device_cookie import known_device, remember_device
from .sessions import current_session as session

PASSWORD_BYTES = 1024  # no hash is computed of a longer one


class Users:
    """Names and password hashes."""

    def __init__(self, hashes: Mapping[str, str]):
        self._hashes = hashes
        self._methods = sorted({each.split("$")[0] for each in hashes.values()})

    def __contains__(self, name: object) -> bool:
        return name in self._hashes

    def hash_of(self, name: str) -> str:
        """What is kept of the user's password; empty if there is no such user."""
        return self._hashes.get(name, "")

    def knows(self, name: str, password: str) -> bool:
        """Whether this is the user's password.

        For every name, known or not, one hash of each method in use is computed: time doesn't tell who exists.
        """
        own = self._hashes.get(name, "")
        hashes = (own if own.startswith(f"{method}$") else f"{method}$nobody$0" for method in self._methods)
        return any([check_password_hash(each, password) for each in hashes])


def log_in(name: str, password: str) -> bool:
    """Start a session under a new id if the password is right. It is in the store by then.

    429 for who failed too often, 503 if too many log in at once.
    """
    if not _is_password(name, password):
        return False
    node = current_app.extensions["anynode"].node
    session.clear()
    session.update(started_on=node, csrf=token_urlsafe(32), counter=0, note="")
    session.log_in(name, address=request.remote_addr or "", agent=request.user_agent.string, node=node)
    session.save()
    remember_device(name)
    return True


def current_user() -> str | None:
    """The name of who is logged in; a user who was removed is not, and is logged out everywhere."""
    if session.user is not None and session.user not in _users():
        session.end_all(cause="account_removed")
    return session.user


def describe_session() -> dict[str, Any]:
    """What the visitor may know about the session; needs a login."""
    assert session.created, "a login has been saved"
    return {
        "user": session.user,
        "node": current_app.extensions["anynode"].node,
        "started_on": session["started_on"],
        "started_at": iso_time(session.created),
        "counter": session["counter"],
        "note": session["note"],
    }


def describe_sessions() -> list[dict[str, Any]]:
    """All sessions of who is logged in, the oldest first."""
    return [
        {
            "handle": each.handle,
            "current": each.handle == session.handle,
            "started_on": each.node,
            "started_at": iso_time(each.created),
            "seen_at": iso_time(each.seen),
            "address": each.address,
            "agent": each.agent,
        }
        for each in session.sessions()
    ]


def confirm_password(password: str) -> bool:
    """Whether this is the password of who is logged in; if so, the session gets a new id, and a stolen one is dead."""
    if session.user is None or not _is_password(session.user, password):
        return False
    session.rotate()
    return True


def _is_password(name: str, password: str) -> bool:
    if len(password.encode()) > PASSWORD_BYTES:
        abort(400, f"A password may have {PASSWORD_BYTES} bytes at most.")
    throttle, turnstile = (current_app.extensions[each] for each in ("throttle", "turnstile"))

    def is_right() -> bool:
        with turnstile.gate:
            return _users().knows(name, password)

    address, browser = request.remote_addr or "", known_device(name)
    found: bool = throttle.check(name, address, browser, is_right, turnstile.place)
    return found


def _users() -> Users:
    users: Users = current_app.extensions["users"]
    return users


def iso_time(moment: datetime) -> str:
    """ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
