"""Refuses what another site made a visitor's browser send.

Two independent walls: where browsers say a request comes from, for all requests that may change something;
and a token in every form, the session's own or, as there is none at login, a signed one.
"""

from datetime import UTC, datetime
from hmac import compare_digest

from flask import Flask, abort, request, session
from itsdangerous import BadData

from .signing import signer

LOGIN_FORM_SECONDS = 8 * 3600
_PURPOSE = "login form"
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def register(app: Flask) -> None:
    app.before_request(_refuse_other_origins)


def login_token() -> str:
    """For the login form; any node accepts it for LOGIN_FORM_SECONDS."""
    return signer(_PURPOSE).dumps("login")


def check_login_form() -> None:
    """403 unless the form carries a login token."""
    try:
        _, made = signer(_PURPOSE).loads(request.form.get("csrf", ""), return_timestamp=True)
        # no max_age: that also refuses what a node whose clock is ahead of this one's has made
        is_good = abs((datetime.now(UTC) - made).total_seconds()) <= LOGIN_FORM_SECONDS
    except BadData:
        is_good = False
    if not is_good:
        abort(403, "This form is too old or wasn't made here. Please reload the page and try again.")


def check_form() -> None:
    """403 unless the form carries the token of the session; needs a login."""
    if not compare_digest(request.form.get("csrf", "").encode(), session["csrf"].encode()):
        abort(403, "This form belongs to another login. Please reload the page and try again.")


def _refuse_other_origins() -> None:
    if request.method in _SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin")
    if site not in ("same-origin", "none") or (origin is not None and origin.partition("://")[2] != request.host):
        abort(403, "Another site sent this request, so it was refused.")
