"""Sessions that all nodes share, in a plain Flask app."""

from collections.abc import Mapping

from flask import Flask, abort, request
from flask.typing import ResponseReturnValue
from flask_shared_session import SharedSession
from flask_shared_session import current_session as session  # flask.session, with the types of the session layer
from werkzeug.security import check_password_hash


def create_app(redis_url: str, users: Mapping[str, str]) -> Flask:
    """Create the app. users: password hashes by name."""
    app = Flask(__name__)
    app.config.update(SESSION_COOKIE_NAME="__Host-session", SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Lax")

    app.config["SESSION_REDIS_URL"] = redis_url  # such as redis://shop:PASSWORD@localhost:6379
    SharedSession(app)

    @app.post("/login")
    def login() -> ResponseReturnValue:
        name = request.form["name"]
        if name not in users or not check_password_hash(users[name], request.form["password"]):
            abort(401)
        session.clear()
        session.log_in(name, address=request.remote_addr or "", agent=request.user_agent.string)
        return {"user": session.user}

    @app.get("/me")
    def me() -> ResponseReturnValue:
        return {"user": session.user, "is_admin": session.get("is_admin", False)}

    @app.post("/admin")
    def become_admin() -> ResponseReturnValue:
        if session.user is None or not check_password_hash(users[session.user], request.form["password"]):
            abort(401)
        session["is_admin"] = True
        session.rotate()  # more privileges, so a new id
        return me()

    @app.get("/sessions")
    def sessions() -> ResponseReturnValue:
        return [{"handle": each.handle, "agent": each.agent, "address": each.address} for each in session.sessions()]

    @app.post("/sessions/end")
    def end_sessions() -> ResponseReturnValue:
        if handle := request.form.get("handle"):
            session.end_session(handle)
        else:
            session.end_others()
        return sessions()

    @app.post("/logout")
    def logout() -> ResponseReturnValue:
        session.end()
        return {"user": None}

    return app
