"""App nodes on loopback that answer the demo's API from memory, with sessions shared or not."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Lock, Thread
from typing import Any

Sessions = dict[str, dict[str, Any]]


class StubNode(ThreadingHTTPServer):
    """A node `name`. `requests` has the method, path and cookies of each request."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, name: str, sessions: Sessions, answers_as: str = "") -> None:
        super().__init__(("127.0.0.1", 0), StubHandler)
        self.name, self.sessions, self.answers_as = name, sessions, answers_as or name
        self.requests: list[tuple[str, str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.keeps_ended_sessions = self.loses_counter = False
        Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class StubHandler(BaseHTTPRequestHandler):
    server: StubNode
    ids, lock = count(), Lock()
    wbufsize = -1

    def handle_request(self) -> None:
        node = self.server
        cookies = dict(each.split("=", 1) for each in self.headers.get("Cookie", "").split("; ") if each)
        node.requests.append((self.command, self.path, self.headers.get("Cookie", "")))
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        key = cookies.get("session", "")
        session = node.sessions.get(key)
        headers = {"X-Node": node.answers_as}
        if self.path == "/api/login":
            with self.lock:
                key = str(next(self.ids))
            session = node.sessions[key] = {"user": body["username"], "started_on": node.name, "note": "", "counter": 0}
            headers |= {"Set-Cookie": f"session={key}; HttpOnly"}
            self.respond(200, session, headers, {"Set-Cookie": "__Host-device=known"})
            return
        if session is None:
            self.respond(401, {"error": "not logged in"}, {"Set-Cookie": "session="} | headers)
            return
        if self.path == "/api/note":
            session["note"] = body["note"]
        elif self.path == "/api/counter" and not node.loses_counter:
            session["counter"] += 1
        elif self.path == "/api/logout" and not node.keeps_ended_sessions:
            del node.sessions[key]
        self.respond(200, session, headers)

    def respond(self, status: int, data: Any, *header_sets: dict[str, str]) -> None:
        """Send JSON with the headers of all sets; a name may be in several."""
        content = json.dumps(data).encode()
        self.send_response(status)
        pairs = dict.fromkeys(pair for headers in header_sets for pair in headers.items())
        for name, value in [*pairs, ("Content-Length", str(len(content)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = handle_request

    def log_message(self, *_: Any) -> None:
        """Keep the output of tests clean."""
