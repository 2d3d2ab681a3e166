"""An app on its way from Flask-Session 0.8.0: release 0 has it alone, release 3 no more."""

from anynode.sessions import RedisStore, SharedSessionInterface
from flask import Flask, abort, request, session
from werkzeug.security import check_password_hash


def adopt(old):
    """Gets an old session's values. Returns whose it is and what to keep, or None to drop it."""
    return old.get("user"), old


def create_app(client, users, release):
    """client: from anynode.redis_client.make_client(). users: password hashes by name."""
    app = Flask(__name__)
    app.secret_key = "the same on all nodes, and secret"
    app.config.update(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Lax")
    store = RedisStore(client, prefix="shop:", idle=31 * 86400, lifetime=31 * 86400)  # seconds

    if release < 3:
        from flask_session import Session

        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=client)
        Session(app)
    if release == 1:  # reads both, makes old ones
        from anynode.sessions.flask_session import BothInterface

        app.session_interface = BothInterface(store, app.session_interface, cookie="__Host-session")
    if release == 2:  # reads both, makes new ones
        from anynode.sessions.flask_session import BothInterface

        app.session_interface = BothInterface(store, app.session_interface, cookie="__Host-session", adopt=adopt)
    if release == 3:
        app.config["SESSION_COOKIE_NAME"] = "__Host-session"
        app.session_interface = SharedSessionInterface(store)

    @app.post("/login")
    def login():
        name = request.form["name"]
        if name not in users or not check_password_hash(users[name], request.form["password"]):
            abort(401)
        session.clear()
        session["user"] = name
        session.permanent = True
        if hasattr(session, "log_in"):  # from release 1 on
            session.log_in(name, address=request.remote_addr, agent=request.user_agent.string)
        return me()

    @app.get("/me")
    def me():
        return {"user": session.get("user"), "cart": session.get("cart", [])}

    @app.post("/cart")
    def put_into_cart():
        session["cart"] = [*session.get("cart", []), request.form["item"]]
        return me()

    @app.post("/logout")
    def logout():
        session.clear()
        return me()

    return app
