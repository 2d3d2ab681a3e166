"""Cookies of the app beside the session's: only for this host, and not readable by scripts."""

from typing import Literal

from flask import Response, after_this_request, current_app, request


def read(name: str) -> str:
    """Return the value of the request's cookie, "" if it has none."""
    return request.cookies.get(_full_name(name), "")


def set_later(name: str, value: str, samesite: Literal["Lax", "Strict"], max_age: int | None = None) -> None:
    """Set a cookie on the response to the current request. max_age: in seconds; None: until the browser is closed."""

    @after_this_request
    def set_cookie(response: Response) -> Response:
        secure = current_app.extensions["anynode"].cookie_secure
        options = {"max_age": max_age, "secure": secure, "httponly": True, "samesite": samesite}
        response.set_cookie(_full_name(name), value, **options)
        return response


def _full_name(name: str) -> str:
    # With this prefix, browsers require Secure, Path=/ and no Domain: no other host can set the cookie.
    return f"__Host-{name}" if current_app.extensions["anynode"].cookie_secure else name
