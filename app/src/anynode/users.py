"""Who may log in, and who is logged in."""

from collections.abc import Mapping
from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Any

from flask import current_app, request
from werkzeug.security import check_password_hash

from .sessions import current_session as session


class Users:
    """Names and password hashes."""

    def __init__(self, hashes: Mapping[str, str]):
        self._hashes = hashes
        # same method and cost as a real one, so that time doesn't tell which names exist
        method = next(iter(hashes.values())).split("$")[0]
        self._nobody = f"{method}$nobody$0"

    def __contains__(self, name: object) -> bool:
        return name in self._hashes

    def knows(self, name: str, password: str) -> bool:
        """Whether this is the user's password."""
        return check_password_hash(self._hashes.get(name, self._nobody), password)


def log_in(name: str, password: str) -> bool:
    """Start a session under a new id if the password is right. It is in the store by then."""
    if not _users().knows(name, password):
        return False
    node = current_app.extensions["anynode"].node
    session.clear()
    session.update(started_on=node, csrf=token_urlsafe(32), counter=0, note="")
    session.log_in(name, address=request.remote_addr or "", agent=request.user_agent.string, node=node)
    session.save()
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
    if session.user is None or not _users().knows(session.user, password):
        return False
    session.rotate()
    return True


def _users() -> Users:
    users: Users = current_app.extensions["users"]
    return users


def iso_time(moment: datetime) -> str:
    """ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
