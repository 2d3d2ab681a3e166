"""Sessions that all nodes share, in an app with Flask-Login 0.6.3."""

from collections.abc import Mapping

from flask import Flask, Response, abort, request
from flask.typing import ResponseReturnValue
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
from flask_shared_session import RedisStore, SharedSessionInterface, Store
from flask_shared_session import current_session as session  # flask.session, with the types of the session layer
from redis import Redis
from werkzeug.security import check_password_hash


class User(UserMixin):
    def __init__(self, name: str):
        self.id = name


class Logins(LoginManager):
    """Disables remember-me cookies: they would restore a login after its session was ended."""

    def _load_user_from_remember_cookie(self, cookie: str) -> None:
        return None

    # Flask-Login reads the session after each request: static files would need a read, and 503 would become 500
    def _update_remember_cookie(self, response: Response) -> Response:
        return response


def use_sessions(app: Flask, store: Store) -> None:
    """Connect Flask-Login to the session layer: logins are listed, can be ended elsewhere, and get new ids."""
    app.session_interface = SharedSessionInterface(store)

    @user_logged_in.connect_via(app)
    def begin(sender: Flask, user: UserMixin) -> None:
        keys = {key: session[key] for key in SESSION_KEYS if key in session}
        session.log_in(user.get_id(), address=request.remote_addr or "", agent=request.user_agent.string)
        session.update(keys)  # log_in() has removed all values if they belonged to another user

    @user_login_confirmed.connect_via(app)
    def renew(sender: Flask) -> None:
        session.rotate()

    @user_logged_out.connect_via(app)
    def end(sender: Flask, user: UserMixin) -> None:
        session.end()


def create_app(client: Redis, users: Mapping[str, str]) -> Flask:
    """Create the app. client: see make_client(). users: password hashes by name."""
    app = Flask(__name__)
    app.config.update(SESSION_COOKIE_NAME="__Host-session", SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Lax")
    use_sessions(app, RedisStore(client, prefix="shop:", idle=1800, lifetime=28800))  # seconds
    logins = Logins(app)

    @logins.user_loader
    def load_user(name: str) -> User | None:
        return User(name) if name in users else None

    def check_password(name: str) -> None:
        if name not in users or not check_password_hash(users[name], request.form["password"]):
            abort(401)

    @app.post("/login")
    def login() -> ResponseReturnValue:
        check_password(request.form["name"])
        login_user(User(request.form["name"]))
        return {"user": current_user.id}

    @app.get("/me")
    def me() -> ResponseReturnValue:
        return {"user": current_user.get_id()}

    @app.post("/confirm")
    @login_required
    def confirm() -> ResponseReturnValue:
        check_password(current_user.id)
        confirm_login()
        return {"user": current_user.id}

    @app.post("/sessions/end")
    @fresh_login_required
    def end_others() -> ResponseReturnValue:
        return {"ended": session.end_others()}

    @app.post("/logout")
    def logout() -> ResponseReturnValue:
        logout_user()
        return {"user": current_user.get_id()}

    return app
