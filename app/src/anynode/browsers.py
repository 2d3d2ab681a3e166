"""Knows a browser again that logged in to an account before: others' failures don't count against it.

A "device cookie", as OWASP calls it: signed, for one account, and of no use without the password.
"""

from hashlib import sha256
from secrets import token_hex

from flask import after_this_request, current_app, request
from flask.typing import ResponseReturnValue
from itsdangerous import BadData
from werkzeug.wrappers import Response

from .signing import signer

KNOWN_SECONDS = 90 * 24 * 3600
_PURPOSE = "known browser"


def known_browser(account: str) -> str | None:
    """The name of the visitor's browser, if it was logged in to this account before."""
    try:
        owner, name = signer(_PURPOSE).loads(request.cookies.get(_cookie(), ""), max_age=KNOWN_SECONDS)
    except (BadData, ValueError):
        return None
    return str(name) if owner == _digest(account) else None


def remember_browser(account: str) -> None:
    """Give it a new name with the answer to this request."""
    value = signer(_PURPOSE).dumps([_digest(account), token_hex(16)])

    @after_this_request
    def _tell(response: Response) -> ResponseReturnValue:
        secure = current_app.extensions["anynode"].cookie_secure
        options = {"max_age": KNOWN_SECONDS, "secure": secure, "httponly": True, "samesite": "Strict"}
        response.set_cookie(_cookie(), value, **options)
        return response


def _cookie() -> str:
    return "__Host-browser" if current_app.extensions["anynode"].cookie_secure else "browser"


def _digest(account: str) -> str:
    return sha256(account.encode()).hexdigest()[:32]
