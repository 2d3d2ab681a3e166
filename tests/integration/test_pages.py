"""The HTML pages."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_shared_session import Session
from lib.demo_app import PASSWORD, USER, log_in, make_app, session_cookie, token
from lib.redis_server import RedisServer
from werkzeug.test import TestResponse


def page_login(client: FlaskClient, user: str = USER, password: str = PASSWORD) -> TestResponse:
    return client.post("/login", data={"csrf": token(client), "username": user, "password": password})


def test_the_login_page_needs_no_session(client: FlaskClient, redis: RedisServer) -> None:
    with redis.monitor() as seen:
        response = client.get("/")
    assert seen.sent == []
    assert response.status_code == 200
    assert 'action="/login"' in response.text
    assert session_cookie(client) is None
    assert response.headers["Cache-Control"] == "no-store"
    assert "Cookie" in response.headers["Vary"]


def test_login_use_and_logout(client: FlaskClient) -> None:
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
def test_a_failed_login_does_not_reveal_existing_users(client: FlaskClient, user: str) -> None:
    response = page_login(client, user, "wrong")
    assert response.status_code == 401
    assert "Wrong user name or password." in response.text
    assert 'action="/login"' in response.text
    assert user not in response.text
    assert session_cookie(client) is None


def test_a_forged_login_form_is_refused(client: FlaskClient) -> None:
    other_browser = client.application.test_client()
    for data in ({}, {"csrf": "x"}, {"csrf": token(client) + "x"}, {"csrf": token(other_browser)}):
        response = client.post("/login", data={"username": USER, "password": PASSWORD} | data)
        assert response.status_code == 403
    data = {"csrf": token(client), "username": USER, "password": PASSWORD}
    assert client.post("/login", data=data, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert session_cookie(client) is None


def test_a_browser_may_have_several_login_forms(client: FlaskClient) -> None:
    first, second = token(client), token(client)
    for csrf in (second, first):
        response = client.post("/login", data={"csrf": csrf, "username": USER, "password": "wrong"})
        assert response.status_code == 401


def test_an_expired_login_form_is_refused(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    csrf = token(client)
    monkeypatch.setattr("anynode.csrf.LOGIN_FORM_SECONDS", -1)
    response = client.post("/login", data={"csrf": csrf, "username": USER, "password": PASSWORD})
    assert response.status_code == 403
    assert "has expired" in response.text


@pytest.mark.parametrize("path", ["/counter", "/note", "/logout", "/sessions"])
def test_a_form_needs_the_token_of_this_session(app: Flask, path: str) -> None:
    client, other = app.test_client(), app.test_client()
    login_form = token(client)
    page_login(client)
    page_login(other, "bob")
    for csrf in ("", "x", "é", login_form, token(other)):
        assert client.post(path, data={"csrf": csrf, "note": "x", "password": PASSWORD}).status_code == 403
    body = client.get("/api/session").get_json()
    assert (body["counter"], body["note"]) == (0, "")


@pytest.mark.parametrize("path", ["/counter", "/note", "/sessions"])
def test_a_form_without_a_login_is_401_with_a_login_form(client: FlaskClient, path: str) -> None:
    response = client.post(path, data={"csrf": "x"})
    assert response.status_code == 401
    assert 'action="/login"' in response.text


def test_a_note_of_any_4096_characters_fits(logged_in: FlaskClient) -> None:
    note = "\U0001f600" * 4096
    assert logged_in.post("/note", data={"csrf": token(logged_in), "note": note}).status_code == 303
    assert logged_in.get("/api/session").get_json()["note"] == note
    for size in (4097, 1024 * 1024):
        response = logged_in.post("/note", data={"csrf": token(logged_in), "note": "x" * size})
        assert response.status_code == 413
    assert logged_in.get("/api/session").get_json()["note"] == note


def test_cookie_attributes(redis: RedisServer) -> None:
    _, plain = log_in(make_app(redis.port).test_client()).headers.getlist("Set-Cookie")
    assert re.fullmatch(r"session=[A-Za-z0-9_-]{45}; HttpOnly; Path=/; SameSite=Lax", plain)
    client = make_app(redis.port, APP_COOKIE_SECURE="true").test_client()
    _, secure = log_in(client).headers.getlist("Set-Cookie")
    assert re.fullmatch(r"__Host-session=[A-Za-z0-9_-]{45}; Secure; HttpOnly; Path=/; SameSite=Lax", secure)


def test_errors_are_pages_without_a_traceback(client: FlaskClient, app: Flask) -> None:
    def broken() -> str:
        raise RuntimeError("the secret inside")

    app.add_url_rule("/broken", view_func=broken)
    for path, status in [("/nothing", 404), ("/login", 405), ("/broken", 500)]:
        response = client.get(path)
        assert response.status_code == status
        assert response.mimetype == "text/html"
        assert response.headers["X-Request-ID"] in response.text
        assert "secret inside" not in response.text
        assert "Traceback" not in response.text
        assert client.get(path, headers={"Accept": "application/json"}).get_json()["error"]


class Inline(HTMLParser):
    """Finds inline code and style, and links to other sites: a strict Content-Security-Policy would block them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        is_policy = tag == "meta" and "http-equiv" in dict(attributes)
        if is_policy or tag in ("script", "style", "base", "object", "embed", "iframe"):
            self.found.append(tag)
        for name, value in attributes:
            scheme = urlsplit(value or "").scheme if name in ("href", "src", "action", "formaction", "data") else ""
            if name == "style" or name.startswith("on") or scheme or (value or "").startswith("//"):
                self.found.append(f"{tag} {name}={value}")


def every_page(app: Flask) -> Iterator[str]:
    """Each template with all of its parts."""
    client = app.test_client()
    yield client.get("/").text
    yield page_login(client, password="wrong").text
    assert page_login(client).status_code == 303
    assert log_in(app.test_client()).status_code == 200, "another session to list"
    yield from (client.get(path).text for path in ("/", "/sessions", "/nothing"))
    yield end_sessions(client, "others", "wrong").text
    yield app.test_client().post("/note", data={"csrf": "x"}).text


def test_pages_contain_nothing_inline_and_nothing_from_other_sites(app: Flask) -> None:
    tags: set[str] = set()
    for page in map(Inline, every_page(app)):
        assert page.found == []
        tags |= page.tags
    assert {"form", "input", "button", "textarea", "link", "dl", "time"} <= tags, "they were parsed"
    for bad in ("<p style=x>", "<p onclick=x>", "<script>x</script>", "<style>x</style>", '<link href="//x/y">'):
        assert Inline(bad).found, "control"
    css = app.test_client().get("/static/style.css")
    assert css.status_code == 200
    assert "url(" not in css.text and "@import" not in css.text


def handles(client: FlaskClient) -> list[str]:
    """The handles of the sessions that the page offers to end."""
    return re.findall(r'name="end" value="([A-Za-z0-9_-]{30})"', client.get("/sessions").text)


def end_sessions(client: FlaskClient, selected: str, password: str = PASSWORD) -> TestResponse:
    return client.post("/sessions", data={"csrf": token(client), "password": password, "end": selected})


def test_the_sessions_page_shows_address_time_and_agent(app: Flask, logged_in: FlaskClient) -> None:
    other = app.test_client()
    where = {"environ_base": {"REMOTE_ADDR": "203.0.113.9"}, "headers": {"User-Agent": "<b>Browser"}}
    other.post("/api/login", json={"username": USER, "password": PASSWORD}, **where)
    page = logged_in.get("/sessions").text
    assert "from 203.0.113.9" in page
    assert "&lt;b&gt;Browser" in page
    assert page.count("on app1, last seen <time") == 2
    assert page.count("This session") == 1
    assert len(handles(logged_in)) == 1
    assert 'href="/sessions"' in logged_in.get("/").text


def test_other_sessions_can_be_ended_singly_or_all_at_once(app: Flask, logged_in: FlaskClient) -> None:
    others = [app.test_client() for _ in range(3)]
    for each in others:
        log_in(each)
    response = end_sessions(logged_in, handles(logged_in)[0])
    assert (response.status_code, response.location) == (303, "/sessions")
    assert sorted(each.get("/api/session").status_code for each in others) == [200, 200, 401]
    assert end_sessions(logged_in, "others").status_code == 303
    assert [each.get("/api/session").status_code for each in others] == [401] * 3
    assert handles(logged_in) == []


@pytest.mark.parametrize("password", ["", "wrong"])
def test_ending_other_sessions_requires_the_password(app: Flask, logged_in: FlaskClient, password: str) -> None:
    other = app.test_client()
    log_in(other)
    for selected in ("others", handles(logged_in)[0]):
        response = end_sessions(logged_in, selected, password)
        assert response.status_code == 403
        assert "Wrong password" in response.text
    assert other.get("/api/session").status_code == 200


def test_users_can_not_end_sessions_of_others(app: Flask, logged_in: FlaskClient) -> None:
    bob = app.test_client()
    page_login(bob, "bob")
    with bob.session_transaction() as session:
        assert isinstance(session, Session) and session.handle
        handle = session.handle
    end_sessions(logged_in, handle)
    end_sessions(logged_in, "others")
    assert bob.get("/api/session").status_code == 200


def test_the_sessions_page_requires_a_login(client: FlaskClient) -> None:
    assert 'action="/login"' in client.get("/sessions").text
