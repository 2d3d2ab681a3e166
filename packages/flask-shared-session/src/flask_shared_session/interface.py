"""Connects the session layer to Flask, and sets the cookie."""

from contextlib import suppress
from typing import Any, cast

import flask
from flask import Flask, Request, Response, current_app
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.wrappers import Response as AnyResponse

from .errors import SessionEnded, SessionStoreError
from .ids import is_id
from .session import Session
from .store import Store

# `flask.session` with its type in an app with a SharedSessionInterface
current_session = cast(Session, flask.session)


def current_store() -> Store:
    """Return the session store of the current app."""
    return cast(SharedSessionInterface, current_app.session_interface).store


class SharedSessionInterface(SessionInterface):
    """Sessions in a `Store`. The cookie contains only the id; Flask's SESSION_COOKIE_* settings apply."""

    def __init__(self, store: Store):
        self.store = store

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        cookie = request.cookies.get(self.get_cookie_name(app), "")
        if is_id(cookie):
            return Session(self.store, cookie)
        if cookie:
            self.store.observer.rejected()
        return Session(self.store, None)

    def save_session(self, app: Flask, session: SessionMixin, response: AnyResponse) -> None:
        session = cast(Session, session)
        try:
            session.save()
        except (SessionStoreError, SessionEnded) as error:
            # for an error from here, Flask calls only the handler of status 500, so call the right handler
            other = app.make_response(app.handle_user_exception(error))
            _replace(response, _after_request(app, other))
        if session.accessed:
            _keep_private(response)
            # only now: if save() raises TypeError, Flask calls this method a second time
            self.store.observer.used(session.found)
        self._set_cookie(app, session, response)
        session.begin_response()

    def _set_cookie(self, app: Flask, session: Session, response: AnyResponse) -> None:
        if session.new_id:
            longest = min(app.permanent_session_lifetime.total_seconds(), self.store.lifetime)
            # browsers prefer Max-Age to Expires, so the clocks of nodes may differ
            max_age = int(longest) if session.is_lasting else None
            name, attributes = self.get_cookie_name(app), self._cookie_attributes(app)
            response.set_cookie(name, session.new_id, max_age=max_age, **attributes)
        elif session.is_cookie_dead:
            response.delete_cookie(self.get_cookie_name(app), **self._cookie_attributes(app))

    def _cookie_attributes(self, app: Flask) -> dict[str, Any]:
        return {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
        }


def _after_request(app: Flask, response: Response) -> Response:
    """Return a response after the functions that Flask has called for the response that it replaces.

    They set headers such as those of CORS, which the error needs, too. A function that needs the session is skipped.
    """
    blueprints = (*flask.request.blueprints, None)
    functions = [each for name in blueprints for each in reversed(app.after_request_funcs.get(name, []))]
    for function in (*flask.globals.request_ctx._after_request_functions, *functions):
        with suppress(SessionStoreError, SessionEnded):
            response = app.ensure_sync(function)(response)
    return response


def _keep_private(response: AnyResponse) -> None:
    """Forbid caches to store the response or to share it between users."""
    # Flask's properties parse and rewrite the whole header, which is rarely present
    present = {name.lower() for name, _ in response.headers}
    if "vary" in present:
        response.vary.add("Cookie")
    else:
        response.headers.add("Vary", "Cookie")
    if "cache-control" in present:
        response.cache_control.no_store = True
    else:
        response.headers.add("Cache-Control", "no-store")


def _replace(response: AnyResponse, other: Response) -> None:
    """Replace the content of `response`, which Flask is about to send, by `other`."""
    response.close()
    response.status = other.status
    response.headers = other.headers
    response.response = other.response
