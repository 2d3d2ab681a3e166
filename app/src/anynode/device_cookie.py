"""Recognizes a browser that logged in to an account before, so that failed logins elsewhere don't block it.

A device cookie (OWASP's term) is signed, valid for a single account, and useless without the password. A change of the
password invalidates it.
"""

from secrets import token_hex

from flask import after_this_request, current_app, request
from flask.typing import ResponseReturnValue
from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.wrappers import Response

from .signing import signer

LIFETIME_SECONDS = 90 * 24 * 3600


def device_id(account: str) -> str | None:
    """Return the device id that the request's cookie carries for this account (user name), or None."""
    try:
        return str(_signer(account).loads(request.cookies.get(_cookie_name(), ""), max_age=LIFETIME_SECONDS))
    except BadData:
        return None


def issue_device_cookie(account: str) -> None:
    """Set a device cookie with a new id for this account (user name) on the response to the current request."""
    value = _signer(account).dumps(token_hex(16))

    @after_this_request
    def _set_cookie(response: Response) -> ResponseReturnValue:
        secure = current_app.extensions["anynode"].cookie_secure
        options = {"max_age": LIFETIME_SECONDS, "secure": secure, "httponly": True, "samesite": "Strict"}
        response.set_cookie(_cookie_name(), value, **options)
        return response


def _cookie_name() -> str:
    return "__Host-device" if current_app.extensions["anynode"].cookie_secure else "device"


def _signer(account: str) -> URLSafeTimedSerializer:
    return signer(f"known browser: {current_app.extensions['users'].hash_of(account)} {account}")
