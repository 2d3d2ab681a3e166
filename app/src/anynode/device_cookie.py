"""Knows a browser again that logged in to an account before: others' failures don't count against it.

A "device cookie", as OWASP calls it: signed, for one account, and of no use without the password. With another password
it is worth nothing: who knew the old one is a stranger.
"""

from secrets import token_hex

from flask import after_this_request, current_app, request
from flask.typing import ResponseReturnValue
from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.wrappers import Response

from .signing import signer

KNOWN_SECONDS = 90 * 24 * 3600


def known_device(account: str) -> str | None:
    """The name of the visitor's browser, if it was logged in to this account before."""
    try:
        return str(_signer(account).loads(request.cookies.get(_cookie(), ""), max_age=KNOWN_SECONDS))
    except BadData:
        return None


def remember_device(account: str) -> None:
    """Give it a new name with the answer to this request."""
    value = _signer(account).dumps(token_hex(16))

    @after_this_request
    def _tell(response: Response) -> ResponseReturnValue:
        secure = current_app.extensions["anynode"].cookie_secure
        options = {"max_age": KNOWN_SECONDS, "secure": secure, "httponly": True, "samesite": "Strict"}
        response.set_cookie(_cookie(), value, **options)
        return response


def _cookie() -> str:
    return "__Host-device" if current_app.extensions["anynode"].cookie_secure else "browser"


def _signer(account: str) -> URLSafeTimedSerializer:
    return signer(f"known browser: {current_app.extensions['users'].hash_of(account)} {account}")
