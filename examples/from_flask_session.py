"""An app that migrates from Flask-Session 0.8.0: release 0 uses only Flask-Session, release 3 no longer uses it."""

from collections.abc import Mapping
from typing import Any

from flask import Flask, abort, request, session
from flask.typing import ResponseReturnValue
from flask_shared_session import RedisStore, SharedSessionInterface
from redis import Redis
from werkzeug.security import check_password_hash


def adopt(old: dict[str, Any]) -> tuple[str | None, dict[str, Any]] | None:
    """Takes an old session's values. Returns its user and the values to keep, or None to drop it."""
    return old.get("user"), old


def create_app(client: Redis, users: Mapping[str, str], release: int) -> Flask:
    """Create the app of a release. client: see make_client(). users: password hashes by name."""
    app = Flask(__name__)
    app.secret_key = "the same on all nodes, and secret"
    app.config.update(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Lax")
    store = RedisStore(client, prefix="shop:", idle=31 * 86400, lifetime=31 * 86400)  # seconds

    if release < 3:
        from flask_session import Session

        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=client)
        Session(app)
    if release == 1:  # reads old and new sessions, creates old sessions
        from flask_shared_session.flask_session import BothInterface

        app.session_interface = BothInterface(store, app.session_interface, cookie="__Host-session")
    if release == 2:  # reads old and new sessions, creates new sessions
        from flask_shared_session.flask_session import BothInterface

        app.session_interface = BothInterface(store, app.session_interface, cookie="__Host-session", adopt=adopt)
    if release == 3:
        app.config["SESSION_COOKIE_NAME"] = "__Host-session"
        app.session_interface = SharedSessionInterface(store)

    @app.post("/login")
    def login() -> ResponseReturnValue:
        name = request.form["name"]
        if name not in users or not check_password_hash(users[name], request.form["password"]):
            abort(401)
        session.clear()
        session["user"] = name
        session.permanent = True
        if hasattr(session, "log_in"):  # since release 1
            session.log_in(name, address=request.remote_addr or "", agent=request.user_agent.string)
        return me()

    @app.get("/me")
    def me() -> ResponseReturnValue:
        return {"user": session.get("user"), "cart": session.get("cart", [])}

    @app.post("/cart")
    def put_into_cart() -> ResponseReturnValue:
        session["cart"] = [*session.get("cart", []), request.form["item"]]
        return me()

    @app.post("/logout")
    def logout() -> ResponseReturnValue:
        session.clear()
        return me()

    return app
