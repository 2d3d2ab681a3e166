"""Users and their logins."""

from collections.abc import Mapping
from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Any

from flask import abort, current_app, request
from flask_shared_session import current_session as session
from werkzeug.security import check_password_hash

from .device_cookie import device_id, issue_device_cookie

PASSWORD_BYTES = 1024  # longer passwords are refused without computing a hash


class Users:
    """Names and password hashes."""

    def __init__(self, hashes: Mapping[str, str]):
        """hashes: werkzeug password hashes by user name."""
        self._hashes = hashes
        self._methods = sorted({each.split("$")[0] for each in hashes.values()})

    def __contains__(self, name: object) -> bool:
        return name in self._hashes

    def hash_of(self, name: str) -> str:
        """Return the hash of the user's password, "" if there is no such user."""
        return self._hashes.get(name, "")

    def knows(self, name: str, password: str) -> bool:
        """Return whether this is the user's password.

        Computes a hash of each method in use for every name, so that the time doesn't reveal existing users.
        """
        own = self._hashes.get(name, "")
        hashes = (own if own.startswith(f"{method}$") else f"{method}$nobody$0" for method in self._methods)
        return any([check_password_hash(each, password) for each in hashes])


def log_in(name: str, password: str) -> bool:
    """Start a session under a new id if the password is correct, and save it. Returns whether it was correct.

    Aborts with 400 (password too long), 429 (too many failed logins) or 503 (too many logins at once, or no store).
    """
    if not _is_password(name, password):
        return False
    node = current_app.extensions["anynode"].node
    session.clear()
    session.update(started_on=node, csrf=token_urlsafe(32), counter=0, note="")
    session.log_in(name, address=request.remote_addr or "", agent=request.user_agent.string, node=node)
    session.save()
    issue_device_cookie(name)
    return True


def current_user() -> str | None:
    """Return the name of the logged-in user, None without a login. A user that was removed is logged out everywhere."""
    if session.user is not None and session.user not in _users():
        session.end_all(cause="account_removed")
    return session.user


def describe_session() -> dict[str, Any]:
    """Return the session's public data. Requires a logged-in user."""
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
    """Return all sessions of the logged-in user, the oldest first."""
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
    """Return whether this is the logged-in user's password. If so, the session gets a new id."""
    if session.user is None or not _is_password(session.user, password):
        return False
    session.rotate()
    return True


def _is_password(name: str, password: str) -> bool:
    if len(password.encode()) > PASSWORD_BYTES:
        abort(400, f"A password may have at most {PASSWORD_BYTES} bytes.")
    limiter, queue = (current_app.extensions[each] for each in ("login_limiter", "hash_queue"))

    def verify() -> bool:
        with queue.lock:
            return _users().knows(name, password)

    is_correct: bool = limiter.check(name, request.remote_addr or "", device_id(name), verify, queue.slot)
    return is_correct


def _users() -> Users:
    users: Users = current_app.extensions["users"]
    return users


def iso_time(moment: datetime) -> str:
    """Return an aware datetime as ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
