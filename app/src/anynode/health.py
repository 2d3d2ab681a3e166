"""Health check and readiness of a node. Neither route uses a session."""

from flask import Blueprint, Flask, Response, current_app
from flask.typing import ResponseReturnValue
from flask_shared_session import SessionStoreError, current_store
from flask_shared_session.errors import RETRY_AFTER_SECONDS

_health = Blueprint("health", __name__)


def register(app: Flask) -> None:
    app.register_blueprint(_health)


@_health.after_request
def _forbid_caching(response: Response) -> Response:
    response.cache_control.no_store = True
    return response


@_health.get("/healthz")
def healthz() -> ResponseReturnValue:
    """200 while this process answers, even without Redis: a Redis outage must not drain all nodes."""
    return _state("ok")


@_health.get("/readyz")
def readyz() -> ResponseReturnValue:
    """200 if sessions can be written, else 503."""
    try:
        current_store().ping()
    except SessionStoreError:
        return _state("session store unavailable"), 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return _state("ok")


def _state(status: str) -> dict[str, str]:
    config = current_app.extensions["anynode"]
    return {"status": status, "node": config.node, "release": config.release}
