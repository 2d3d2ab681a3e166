"""Recognizes a browser that logged in to an account before, so that failed logins elsewhere don't block it.

A device cookie (OWASP's term) is signed, valid for a single account, and useless without the password. A change of the
password invalidates it.
"""

from secrets import token_hex

from flask import current_app
from itsdangerous import BadData, URLSafeTimedSerializer

from . import host_cookie
from .signing import signer

_COOKIE = "device"
LIFETIME_SECONDS = 90 * 24 * 3600


def device_id(account: str) -> str | None:
    """Return the device id that the request's cookie carries for this account (user name), or None."""
    try:
        return str(_signer(account).loads(host_cookie.read(_COOKIE), max_age=LIFETIME_SECONDS))
    except BadData:
        return None


def issue_device_cookie(account: str) -> None:
    """Set a device cookie with a new id for this account (user name) on the response to the current request."""
    host_cookie.set_later(_COOKIE, _signer(account).dumps(token_hex(16)), "Strict", LIFETIME_SECONDS)


def _signer(account: str) -> URLSafeTimedSerializer:
    return signer(f"known browser: {current_app.extensions['users'].hash_of(account)} {account}")
