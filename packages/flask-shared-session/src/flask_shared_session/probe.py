"""The probe: a deployment proves with it that a session made on node A is known on node B, without an account.

POST makes a session and returns its value, GET returns the value of the session, DELETE ends the session. Requests
need a token that is valid for a minute; for all others the path doesn't exist.
"""

import hmac
import secrets
import time

from flask import Flask, request
from flask.typing import ResponseReturnValue

from .interface import current_session as session

PATH = "/.session-probe"
HEADER = "X-Session-Probe"
TOKEN_SECONDS = 60
AHEAD_SECONDS = 5  # by which the clock of who made the token may be ahead
KEY_CHARACTERS = 32  # at least
_VALUE = "_probe"


def make_token(key: str, method: str, now: float | None = None) -> str:
    """Return the value of the header for a request. now: seconds since 1970, by default the current time."""
    moment = str(int(time.time() if now is None else now))
    return f"{moment}.{_signature(key, method, moment)}"


def is_valid(key: str, method: str, token: str, now: float | None = None) -> bool:
    """Return whether a header's value is a token of this key and method that hasn't expired."""
    moment, _dot, signature = token.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(key, method, moment).encode()):
        return False
    age = (time.time() if now is None else now) - int(moment)
    return -AHEAD_SECONDS <= age <= TOKEN_SECONDS


def _signature(key: str, method: str, moment: str) -> str:
    return hmac.digest(key.encode(), f"{method} {PATH} {moment}".encode(), "sha256").hex()


def register(app: Flask, key: str) -> None:
    """Answer requests with a token of this key before any other function of the app.

    It is the first of the app's functions before a request, so that checks of a login or of a CSRF token don't refuse
    it. Functions that process URL values, and functions after a request, run as usual.
    """

    def answer() -> ResponseReturnValue | None:
        if request.path != PATH or not is_valid(key, request.method, request.headers.get(HEADER, "")):
            return None
        if request.method == "POST":
            session.clear()
            session[_VALUE] = secrets.token_hex(8)
            session.rotate()
        elif request.method == "DELETE":
            value = session.get(_VALUE)
            session.end()
            return {"value": value}
        return {"value": session.get(_VALUE)}

    app.before_request_funcs.setdefault(None, []).insert(0, answer)
