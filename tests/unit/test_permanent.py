"""`session.permanent`: the cookie outlives the browser's run, as with Flask's own sessions."""

from datetime import timedelta

import flask
import pytest
from anynode.sessions import SessionStoreError, SharedSessionInterface
from unit.helpers import redis_store


@pytest.fixture
def app(redis):
    app = flask.Flask("guest")
    app.permanent_session_lifetime = timedelta(days=7)
    app.session_interface = SharedSessionInterface(redis_store(redis))

    @app.get("/login/<int:permanent>")
    def login(permanent):
        flask.session.permanent = bool(permanent)
        flask.session.log_in("ada")
        return "in"

    @app.get("/rotate")
    def rotate():
        flask.session.rotate()
        return str(flask.session.permanent)

    @app.get("/saved-then-lost")
    def saved_then_lost():
        flask.session.permanent = True
        flask.session.save()
        app.session_interface.store.update = fail
        flask.session["a"] = 1
        return "never sent"

    return app


def fail(*arguments):
    raise SessionStoreError


def test_the_cookie_lives_as_long_as_the_app_says_under_each_new_id(app):
    client = app.test_client()
    for path in ("/login/1", "/rotate"):
        assert "Max-Age=604800" in client.get(path).headers["Set-Cookie"]
    assert client.get_cookie("session").max_age == 604800


def test_else_it_lives_as_long_as_the_browser_runs(app):
    client = app.test_client()
    for path in ("/login/0", "/rotate"):
        made = client.get(path).headers["Set-Cookie"]
        assert "Max-Age" not in made
        assert "Expires" not in made


def test_a_store_that_fails_after_the_id_was_made_is_503_as_ever(app):
    response = app.test_client().get("/saved-then-lost")
    assert response.status_code == 503
    assert "Max-Age=604800" in response.headers["Set-Cookie"], "the session is there"
