"""A small app with different session layers: gunicorn serves create_app("anynode") and the other LAYERS."""

import os
from collections.abc import Callable
from typing import Any

from flask import Flask, abort, session
from flask_session import Session
from flask_shared_session import RedisStore, SharedSessionInterface
from flask_shared_session.redis_client import make_client
from redis import Redis

USER = "ada"
VALUES = {"csrf": "x" * 43, "counter": 0}  # the values of a login


def _none(app: Flask) -> Any:
    return {}


def _one_get(app: Flask) -> Any:
    client = _client()
    app.before_request(lambda: client.get("nothing"))
    return {}


def _anynode(app: Flask) -> Any:
    app.session_interface = SharedSessionInterface(RedisStore(_client(), prefix="anynode:", idle=1800, lifetime=28800))
    return session


def _flask_session(app: Flask) -> Any:
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=Redis(**_redis()))
    Session(app)
    return session


def _signed_cookie(app: Flask) -> Any:
    app.secret_key = "only this benchmark uses the cookies"
    return session


# Each function configures the sessions of an app, and returns the mapping that the routes use.
LAYERS: dict[str, Callable[[Flask], Any]] = {
    "none": _none,
    "one_get": _one_get,
    "anynode": _anynode,
    "flask_session": _flask_session,
    "signed_cookie": _signed_cookie,
}


def create_app(layer: str) -> Flask:
    """Create the app with a session layer. layer: a key of LAYERS."""
    app = Flask(__name__)
    values = LAYERS[layer](app)

    def user() -> Any:
        return values.user if layer == "anynode" else values.get("user")

    @app.post("/login")
    def login() -> dict[str, Any]:
        values.update(VALUES)
        if layer == "anynode":
            values.log_in(USER)
        else:
            values["user"] = USER
        return {"user": user(), "pid": os.getpid()}

    @app.get("/read")
    def read() -> dict[str, Any]:
        return {"user": user() or abort(401), "counter": values["counter"]}

    @app.post("/write")
    def write() -> dict[str, Any]:
        values["counter"] += 1
        return {"user": user() or abort(401), "counter": values["counter"]}

    return app


def _client() -> Redis:
    """A client with the options of the app."""
    return make_client(host="127.0.0.1", **_redis())


def _redis() -> dict[str, Any]:
    return {"port": int(os.environ["REDIS_PORT"]), "username": "admin", "password": os.environ["REDIS_PASSWORD"]}
