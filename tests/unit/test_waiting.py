"""The modules that log in: they keep all cookies, and wait once when they are told to."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from lib.ansible_runs import load_module

app_health_check = load_module("plugins/modules/app_health_check.py")
session_check = load_module("plugins/modules/session_check.py")


class Handler(BaseHTTPRequestHandler):
    """Answers with the statuses of `script`, one after the other, and two cookies each time."""

    script, cookies = [], []

    def do_GET(self):
        self.cookies.append(self.headers["Cookie"])
        self.send_response(self.script.pop(0))
        self.send_header("Retry-After", "0")
        self.send_header("Set-Cookie", "__Host-device=b; Secure")
        self.send_header("Set-Cookie", "__Host-session=s; Secure")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        """Nobody reads it."""


@pytest.fixture
def server():
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


ASK = {
    "app_health_check": lambda port: app_health_check.Visitor("127.0.0.1", port, 10).ask("GET", "/")[0],
    "session_check": lambda port: session_check.Visitor(10).ask(f"http://127.0.0.1:{port}", "GET", "/")[0],
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
@pytest.mark.parametrize(("script", "status"), [([200], 200), ([429, 200], 200), ([429, 429], 429)])
def test_429_is_asked_again_once(server, ask, script, status):
    Handler.script, Handler.cookies = [*script], []
    assert ask(server.server_port) == status
    assert len(Handler.cookies) == len(script)
    assert all("__Host-session=s" in each for each in Handler.cookies[1:])


def test_a_page_that_fails_is_named(server):
    Handler.script, Handler.cookies = [500], []
    with pytest.raises(app_health_check.Unwell, match="GET /: 500"):
        app_health_check.Visitor("127.0.0.1", server.server_port, 10).must("GET", "/")
