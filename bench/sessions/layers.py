"""One small app under several session layers: gunicorn serves create_app("anynode") and the others of LAYERS."""

import os

from anynode.redis_client import make_client
from anynode.sessions import RedisStore, SharedSessionInterface
from flask import Flask, abort, session
from flask_session import Session
from redis import Redis

USER = "ada"
VALUES = {"csrf": "x" * 43, "counter": 0}  # what a login keeps in the session


def _none(app):
    return {}


def _one_get(app):
    client = _client()
    app.before_request(lambda: client.get("nothing"))
    return {}


def _anynode(app):
    app.session_interface = SharedSessionInterface(RedisStore(_client(), prefix="anynode:", idle=1800, lifetime=28800))
    return session


def _flask_session(app):
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=Redis(**_redis()))
    Session(app)
    return session


def _signed_cookie(app):
    app.secret_key = "nobody else ever sees the cookies"
    return session


# Each gives an app its sessions, and returns where the routes find their values.
LAYERS = {
    "none": _none,
    "one_get": _one_get,
    "anynode": _anynode,
    "flask_session": _flask_session,
    "signed_cookie": _signed_cookie,
}


def create_app(layer: str) -> Flask:
    app = Flask(__name__)
    values = LAYERS[layer](app)

    def user():
        return values.user if layer == "anynode" else values.get("user")

    @app.post("/login")
    def login():
        values.update(VALUES)
        if layer == "anynode":
            values.log_in(USER)
        else:
            values["user"] = USER
        return {"user": user(), "pid": os.getpid()}

    @app.get("/read")
    def read():
        return {"user": user() or abort(401), "counter": values["counter"]}

    @app.post("/write")
    def write():
        values["counter"] += 1
        return {"user": user() or abort(401), "counter": values["counter"]}

    return app


def _client() -> Redis:
    """As the app makes it."""
    return make_client(host="127.0.0.1", username="default", **_redis())


def _redis() -> dict:
    return {"port": int(os.environ["REDIS_PORT"]), "password": os.environ["REDIS_PASSWORD"]}
