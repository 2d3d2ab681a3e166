"""Protects against cross-site request forgery with two independent checks.

Requests that may change state must have the app's own origin, by the headers that browsers send. Every form carries a
token: the session's token or, before login, a signed token that is valid with the browser's cookie only, so that nobody
can log others in with a token of his own.
"""

from datetime import UTC, datetime
from hmac import compare_digest
from secrets import token_hex

from flask import Flask, abort, request, session
from itsdangerous import BadData

from . import host_cookie
from .signing import signer

LOGIN_FORM_SECONDS = 8 * 3600
_PURPOSE = "login form"
_COOKIE = "login-form"
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def register(app: Flask) -> None:
    app.before_request(_refuse_other_origins)


def login_token() -> str:
    """Return a token for the login form. Any node accepts it for LOGIN_FORM_SECONDS, from the browser that gets it."""
    browser = host_cookie.read(_COOKIE)
    if not browser:
        browser = token_hex(16)
        host_cookie.set_later(_COOKIE, browser, "Lax")
    return signer(_PURPOSE).dumps(browser)


def check_login_form() -> None:
    """Abort with 403 unless the form carries a valid login token of this browser."""
    try:
        browser, made = signer(_PURPOSE).loads(request.form.get("csrf", ""), return_timestamp=True)
        # no max_age: it would refuse tokens of a node with a clock that is ahead
        is_good = abs((datetime.now(UTC) - made).total_seconds()) <= LOGIN_FORM_SECONDS
        is_good = is_good and compare_digest(str(browser).encode(), host_cookie.read(_COOKIE).encode())
    except BadData:
        is_good = False
    if not is_good:
        abort(403, "This form has expired or is invalid. Please reload the page and try again.")


def check_form() -> None:
    """Abort with 403 unless the form carries the session's token. Requires a logged-in user."""
    if not compare_digest(request.form.get("csrf", "").encode(), session["csrf"].encode()):
        abort(403, "This form belongs to another login. Please reload the page and try again.")


def _refuse_other_origins() -> None:
    if request.method in _SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin")
    if site not in ("same-origin", "none") or (origin is not None and origin.partition("://")[2] != request.host):
        abort(403, "This request was refused because another site sent it.")
