"""The HTTP client of the modules keeps cookies and retries 429 once; the health check names failures."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from ansible.module_utils.anynode.http import Client, HttpError, url_of
from lib.ansible_runs import load_module

app_health_check = load_module("plugins/modules/app_health_check.py")
app_status = load_module("plugins/modules/app_status.py")


class Handler(BaseHTTPRequestHandler):
    """Answers with the statuses of `script`, one after the other, and two cookies each time."""

    script: list[int] = []
    cookies: list[str | None] = []
    body = b"{}"

    def do_GET(self) -> None:
        self.cookies.append(self.headers["Cookie"])
        self.send_response(self.script.pop(0))
        self.send_header("Retry-After", "0")
        self.send_header("X-Release", "1-a")
        self.send_header("Set-Cookie", "__Host-device=b; Secure")
        self.send_header("Set-Cookie", "__Host-session=s; Secure")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        """Keep the output of tests clean."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    Handler.cookies, Handler.body = [], b"{}"
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("script", "status"), [([200], 200), ([429, 200], 200), ([429, 429], 429)])
def test_429_is_retried_once(url: str, script: list[int], status: int) -> None:
    Handler.script = [*script]
    client = Client(10)
    assert client.request("GET", url).status == status
    assert len(Handler.cookies) == len(script)
    assert all("__Host-session=s" in (each or "") for each in Handler.cookies[1:])
    assert client.cookies == {"__Host-device": "b", "__Host-session": "s"}


@pytest.mark.parametrize(("header", "seconds"), [("0", 0), ("7", 7), ("3600", 60), ("soon", 1), (None, 1)])
def test_a_retry_waits_as_long_as_the_server_requests_a_minute_at_most(
    monkeypatch: pytest.MonkeyPatch, url: str, header: str | None, seconds: int
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("ansible.module_utils.anynode.http.time.sleep", waits.append)
    send_header = Handler.send_header

    def replace(handler: Handler, name: str, value: str) -> None:
        if name != "Retry-After" or header is not None:
            send_header(handler, name, str(header) if name == "Retry-After" else value)

    monkeypatch.setattr(Handler, "send_header", replace)
    Handler.script = [429, 200]
    assert Client(10).request("GET", url).status == 200
    assert waits == [seconds]


def test_a_server_that_does_not_respond_in_time_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/readyz"
        with pytest.raises(HttpError, match=f"GET {url}: no response within 0.1 s"):
            Client(0.1).request("GET", url)
    with pytest.raises(HttpError, match=f"GET {url}: no response .*refused"):
        Client(10).request("GET", url)


def test_an_ipv6_address_is_bracketed() -> None:
    assert url_of("2001:db8::1", 8000) == "http://[2001:db8::1]:8000"
    assert url_of("192.0.2.1", 8000) == "http://192.0.2.1:8000"


def test_a_page_that_fails_is_named(url: str) -> None:
    Handler.script = [500]
    with pytest.raises(app_health_check.HealthCheckError, match="GET /: 500"):
        app_health_check.HealthCheck(url, 10).assert_ok("GET", "/")


def test_a_release_that_is_never_ready_is_named(url: str) -> None:
    Handler.script = [500]
    with pytest.raises(app_health_check.HealthCheckError, match="not ready after 0 s: GET /readyz: 500"):
        app_health_check.wait_until_ready(app_health_check.HealthCheck(url, 10), "1-a", seconds=0)


def test_another_release_is_not_taken_for_the_deployed_release(url: str) -> None:
    Handler.script = [200]
    with pytest.raises(app_health_check.HealthCheckError, match="release 1-a answers, not 1-b"):
        app_health_check.wait_until_ready(app_health_check.HealthCheck(url, 10), "1-b", seconds=0)


def test_a_release_that_answers_slowly_is_named() -> None:
    """At any request of the health check."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        check = app_health_check.HealthCheck(f"http://127.0.0.1:{server.getsockname()[1]}", 0.1)
        with pytest.raises(app_health_check.HealthCheckError, match="GET .*/: no response within 0.1 s"):
            app_health_check.check_login(check, "ada", "secret", "1-a")


@pytest.mark.parametrize(
    ("status", "body", "report"),
    [
        (200, b"{}", ("ready", "", "1-a")),
        (503, b'{"status": "session store unavailable"}', ("not ready", "session store unavailable", "1-a")),
        (500, b"<h1>", ("not ready", "status 500", "1-a")),
    ],
)
def test_readiness_is_what_readyz_answers(url: str, status: int, body: bytes, report: tuple[str, str, str]) -> None:
    Handler.script, Handler.body = [status], body
    assert app_status.readiness(url, 3) == report
