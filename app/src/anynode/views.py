"""The HTML pages and their forms."""

from flask import Blueprint, Flask, abort, current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_shared_session import current_session as session

from .csrf import check_form, check_login_form, login_token
from .notes import MAX_CHARACTERS, save_note
from .users import confirm_password, current_user, describe_session, describe_sessions, log_in

_pages = Blueprint("pages", __name__)


def register(app: Flask) -> None:
    app.register_blueprint(_pages)
    app.context_processor(lambda: {"node": current_app.extensions["anynode"].node, "login_token": login_token})


@_pages.get("/")
def index() -> ResponseReturnValue:
    if current_user() is None:
        return render_template("login.html")
    return render_template("session.html", csrf=session["csrf"], max_characters=MAX_CHARACTERS, **describe_session())


@_pages.post("/login")
def login() -> ResponseReturnValue:
    check_login_form()
    if not log_in(request.form.get("username", ""), request.form.get("password", "")):
        return render_template("login.html", message="Wrong user name or password."), 401
    return _back()


@_pages.post("/counter")
def count() -> ResponseReturnValue:
    _check_form()
    session.increment("counter")
    return _back()


@_pages.post("/note")
def note() -> ResponseReturnValue:
    _check_form()
    # browsers send line breaks as CR LF, which the page counts as a single character
    save_note(request.form.get("note", "").replace("\r\n", "\n"))
    return _back()


@_pages.post("/logout")
def logout() -> ResponseReturnValue:
    if current_user() is not None:
        check_form()
        session.end()
    return _back()


@_pages.get("/sessions")
def sessions() -> ResponseReturnValue:
    if current_user() is None:
        return render_template("login.html")
    return _sessions_page()


@_pages.post("/sessions")
def end_sessions() -> ResponseReturnValue:
    _check_form()
    if not confirm_password(request.form.get("password", "")):
        return _sessions_page(message="Wrong password. No session was ended."), 403
    selected = request.form.get("end", "")
    if selected == "others":
        session.end_others()
    else:
        session.end_session(selected)
    return redirect(url_for("pages.sessions"), 303)


def _sessions_page(**values: str) -> str:
    return render_template("sessions.html", csrf=session["csrf"], sessions=describe_sessions(), **values)


def _check_form() -> None:
    if current_user() is None:
        abort(401, "You are no longer logged in. Nothing was changed.")
    check_form()


def _back() -> ResponseReturnValue:
    return redirect(url_for("pages.index"), 303)
