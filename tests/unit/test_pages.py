"""The pages for people."""

import re

import pytest
from unit.helpers import PASSWORD, USER, log_in, make_app, session_cookie, token


def page_login(client, user=USER, password=PASSWORD):
    return client.post("/login", data={"csrf": token(client), "username": user, "password": password})


def test_looking_at_the_login_page_costs_no_session(client, redis):
    with redis.watch() as seen:
        response = client.get("/")
    assert seen.sent == []
    assert response.status_code == 200
    assert 'action="/login"' in response.text
    assert "Set-Cookie" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"
    assert "Cookie" in response.headers["Vary"]


def test_a_whole_visit(client):
    response = page_login(client)
    assert (response.status_code, response.location) == (303, "/")
    page = client.get("/").text
    assert f"Hello, {USER}." in page
    assert "app1" in page
    csrf = token(client)
    assert client.post("/counter", data={"csrf": csrf}).status_code == 303
    assert client.post("/note", data={"csrf": csrf, "note": "\n<b>first</b>\r\nsecond"}).status_code == 303
    page = client.get("/").text
    assert "<output>1</output>" in page
    assert ">\n\n&lt;b&gt;first&lt;/b&gt;\nsecond</textarea>" in page
    assert client.post("/logout", data={"csrf": csrf}).status_code == 303
    assert session_cookie(client) is None
    assert 'action="/login"' in client.get("/").text


@pytest.mark.parametrize("user", [USER, "nobody"])
def test_a_wrong_login_does_not_tell_who_exists(client, user):
    response = page_login(client, user, "wrong")
    assert response.status_code == 401
    assert "Wrong user name or password." in response.text
    assert 'action="/login"' in response.text
    assert user not in response.text
    assert session_cookie(client) is None


def test_a_forged_login_form_is_refused(client):
    for data in ({}, {"csrf": "x"}, {"csrf": token(client) + "x"}):
        response = client.post("/login", data={"username": USER, "password": PASSWORD} | data)
        assert response.status_code == 403
    data = {"csrf": token(client), "username": USER, "password": PASSWORD}
    assert client.post("/login", data=data, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert session_cookie(client) is None


def test_an_old_login_form_is_refused(client, monkeypatch):
    csrf = token(client)
    monkeypatch.setattr("anynode.csrf.LOGIN_FORM_SECONDS", -1)
    response = client.post("/login", data={"csrf": csrf, "username": USER, "password": PASSWORD})
    assert response.status_code == 403
    assert "too old" in response.text


@pytest.mark.parametrize("path", ["/counter", "/note", "/logout"])
def test_a_form_needs_the_token_of_this_session(app, path):
    client, other = app.test_client(), app.test_client()
    login_form = token(client)
    page_login(client)
    page_login(other, "bob")
    for csrf in ("", "x", "é", login_form, token(other)):
        assert client.post(path, data={"csrf": csrf, "note": "x"}).status_code == 403
    body = client.get("/api/session").json
    assert (body["counter"], body["note"]) == (0, "")


@pytest.mark.parametrize("path", ["/counter", "/note"])
def test_a_form_without_a_login_is_401_with_a_way_to_log_in(client, path):
    response = client.post(path, data={"csrf": "x"})
    assert response.status_code == 401
    assert 'action="/login"' in response.text


def test_a_note_of_any_4096_characters_fits(logged_in):
    note = "\U0001f600" * 4096
    assert logged_in.post("/note", data={"csrf": token(logged_in), "note": note}).status_code == 303
    assert logged_in.get("/api/session").json["note"] == note
    for size in (4097, 1024 * 1024):
        response = logged_in.post("/note", data={"csrf": token(logged_in), "note": "x" * size})
        assert response.status_code == 413
    assert logged_in.get("/api/session").json["note"] == note


def test_cookie_attributes(redis):
    plain = log_in(make_app(redis.port).test_client()).headers["Set-Cookie"]
    assert re.fullmatch(r"session=[A-Za-z0-9_-]{45}; HttpOnly; Path=/; SameSite=Lax", plain)
    client = make_app(redis.port, APP_COOKIE_SECURE="true").test_client()
    secure = log_in(client).headers["Set-Cookie"]
    assert re.fullmatch(r"__Host-session=[A-Za-z0-9_-]{45}; Secure; HttpOnly; Path=/; SameSite=Lax", secure)


def test_errors_are_pages_without_a_trace(client, app):
    def broken():
        raise RuntimeError("the secret inside")

    app.add_url_rule("/broken", view_func=broken)
    for path, status in [("/nothing", 404), ("/login", 405), ("/broken", 500)]:
        response = client.get(path)
        assert response.status_code == status
        assert response.mimetype == "text/html"
        assert response.headers["X-Request-ID"] in response.text
        assert "secret inside" not in response.text
        assert "Traceback" not in response.text
        assert client.get(path, headers={"Accept": "application/json"}).json["error"]


def test_pages_hold_no_inline_script_or_style(logged_in):
    for page in (logged_in.get("/").text, logged_in.get("/nothing").text):
        assert "<script" not in page
        assert "<style" not in page
        assert " style=" not in page
        assert " on" + "click" not in page
    assert logged_in.get("/static/style.css").status_code == 200
