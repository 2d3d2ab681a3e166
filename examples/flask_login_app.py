"""Sessions that every node knows, in an app that uses Flask-Login 0.6.3."""

from anynode.sessions import RedisStore, SharedSessionInterface
from flask import Flask, abort, request, session
from flask_login import (
    LoginManager,
    UserMixin,
    confirm_login,
    current_user,
    fresh_login_required,
    login_required,
    login_user,
    logout_user,
    user_logged_in,
    user_logged_out,
    user_login_confirmed,
)
from flask_login.config import SESSION_KEYS
from werkzeug.security import check_password_hash


class User(UserMixin):
    def __init__(self, name):
        self.id = name


class Logins(LoginManager):
    """Without remember-me cookies: who has one would be let in again after the session was ended here."""

    def _load_user_from_remember_cookie(self, cookie):
        return None

    # Flask-Login looks into the session after each request: static files would cost a read, and 503 would become 500
    def _update_remember_cookie(self, response):
        return response


def use_sessions(app, store):
    """Make Flask-Login's logins those of the session layer: listed, ended from elsewhere, each under a new id."""
    app.session_interface = SharedSessionInterface(store)

    @user_logged_in.connect_via(app)
    def begin(sender, user):
        own = {key: session[key] for key in SESSION_KEYS if key in session}
        session.log_in(user.get_id(), address=request.remote_addr, agent=request.user_agent.string)
        session.update(own)  # log_in() has dropped all values if they were another user's

    @user_login_confirmed.connect_via(app)
    def renew(sender):
        session.rotate()

    @user_logged_out.connect_via(app)
    def end(sender, user):
        session.end()


def create_app(client, users):
    """client: from anynode.redis_client.make_client(). users: password hashes by name."""
    app = Flask(__name__)
    app.config.update(SESSION_COOKIE_NAME="__Host-session", SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Lax")
    use_sessions(app, RedisStore(client, prefix="shop:", idle=1800, lifetime=28800))  # seconds
    logins = Logins(app)

    @logins.user_loader
    def load_user(name):
        return User(name) if name in users else None

    def check_password(name):
        if name not in users or not check_password_hash(users[name], request.form["password"]):
            abort(401)

    @app.post("/login")
    def login():
        check_password(request.form["name"])
        login_user(User(request.form["name"]))
        return {"user": current_user.id}

    @app.get("/me")
    def me():
        return {"user": current_user.get_id()}

    @app.post("/confirm")
    @login_required
    def confirm():
        check_password(current_user.id)
        confirm_login()
        return {"user": current_user.id}

    @app.post("/sessions/end")
    @fresh_login_required
    def end_others():
        return {"ended": session.end_others()}

    @app.post("/logout")
    def logout():
        logout_user()
        return {"user": current_user.get_id()}

    return app
