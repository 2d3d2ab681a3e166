"""The JSON API: /api/*."""

import json
from typing import Any

from flask import Blueprint, Flask, abort, request
from flask.typing import ResponseReturnValue
from flask_shared_session import current_session as session

from .notes import save_note
from .users import confirm_password, current_user, describe_session, describe_sessions, log_in

_api = Blueprint("api", __name__, url_prefix="/api")


def register(app: Flask) -> None:
    app.register_blueprint(_api)


@_api.before_request
def _accept_json_only() -> None:
    # a form on another site can't send this type without a CORS preflight
    if request.method not in ("GET", "HEAD", "OPTIONS") and request.mimetype != "application/json":
        abort(415, "Send Content-Type: application/json.")


@_api.post("/login")
def login() -> ResponseReturnValue:
    body = _body()
    if not log_in(_text(body, "username"), _text(body, "password")):
        abort(401, "Wrong user name or password.")
    return describe_session()


@_api.get("/session")
def show() -> ResponseReturnValue:
    _require_login()
    return describe_session()


@_api.post("/counter")
def count() -> ResponseReturnValue:
    _body()
    _require_login()
    return {"counter": session.increment("counter")}


@_api.put("/note")
def note() -> ResponseReturnValue:
    text = _text(_body(), "note")
    _require_login()
    save_note(text)
    return {"note": text}


@_api.post("/logout")
def logout() -> ResponseReturnValue:
    _body()
    session.end()
    return {"ok": True}


@_api.get("/sessions")
def list_sessions() -> ResponseReturnValue:
    _require_login()
    return {"sessions": describe_sessions()}


@_api.delete("/sessions")
def end_other_sessions() -> ResponseReturnValue:
    password = _text(_body(), "password")
    _require_login()
    if not confirm_password(password):
        abort(403, "Wrong password. No session was ended.")
    return {"ended": session.end_others()}


def _require_login() -> None:
    if current_user() is None:
        abort(401, "Log in first: POST /api/login.")


def _body() -> dict[str, Any]:
    """The JSON object in the request; an empty body counts as an empty object."""
    raw = request.get_data()
    request.stream.read(1)  # get_data truncates a chunked body at the limit; reading on raises 413
    try:
        body = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        abort(400, "The body isn't valid JSON.")
    if not isinstance(body, dict):
        abort(400, "The body must be a JSON object.")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    # JSON can contain half of a surrogate pair, which can't be encoded for a page or a hash
    if not isinstance(value, str) or not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        abort(400, f'"{name}" is required and must be a string.')
    return value
