"""What happens when Redis doesn't answer: an honest 503, soon, and no harm."""

import socket
import socketserver
import threading
import time

import pytest
from anynode.sessions.ids import make_id
from unit.helpers import log_in, make_app, session_cookie, token
from unit.servers import free_port


def timed(call):
    started = time.monotonic()
    response = call()
    return response, time.monotonic() - started


def assert_honest(response, seconds):
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Node"] == "app1"
    assert response.headers["X-Request-ID"]
    assert "Set-Cookie" not in response.headers
    assert seconds < 1


@pytest.fixture
def black_hole():
    """The port of something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def full_backlog():
    """The port of something that lets no connection in, as if packets were dropped."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        yield port
        for client in waiting:
            client.close()


@pytest.mark.parametrize("kind", ["refused", "black_hole", "full_backlog"])
def test_an_unreachable_redis_is_503_within_a_second(request, kind):
    port = free_port() if kind == "refused" else request.getfixturevalue(kind)
    client = make_app(port).test_client()
    client.set_cookie("session", make_id())
    for call in (
        lambda: client.get("/api/session"),
        lambda: client.get("/"),
        lambda: client.post("/api/counter", json={}),
        lambda: client.put("/api/note", json={"note": "x"}),
        lambda: client.post("/api/logout", json={}),
        lambda: log_in(client),
        lambda: log_in(make_app(port).test_client()),
        lambda: client.get("/readyz"),
    ):
        assert_honest(*timed(call))
    assert "Nothing is lost" in client.get("/").text
    assert session_cookie(client), "still holds the cookie: nobody was logged out"
    assert client.get("/healthz").status_code == 200
    assert make_app(port).test_client().get("/").status_code == 200


def test_all_threads_at_once_get_their_503_within_a_second(black_hole):
    app = make_app(black_hole)
    results = []

    def work():
        client = app.test_client()
        client.set_cookie("session", make_id())
        results.append(timed(lambda: client.get("/api/session")))

    threads = [threading.Thread(target=work) for _ in range(36)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 36
    for response, seconds in results:
        assert_honest(response, seconds)


def test_a_killed_redis_is_503_and_comes_back_without_a_restart(own_redis):
    client = make_app(own_redis.port).test_client()
    log_in(client)
    client.post("/api/counter", json={})
    time.sleep(0.1)
    own_redis.kill()
    for path in ("/api/session", "/", "/readyz"):
        assert_honest(*timed(lambda path=path: client.get(path)))
    assert client.get("/healthz").status_code == 200
    own_redis.start()
    began = time.monotonic()
    while (response := client.get("/api/session")).status_code == 503:
        time.sleep(0.02)
    assert time.monotonic() - began < 2
    assert response.json["counter"] == 1
    assert client.get("/readyz").status_code == 200
    assert client.post("/api/counter", json={}).json == {"counter": 2}


def test_a_redis_that_dies_during_the_request_is_503_after_the_view(own_redis):
    app = make_app(own_redis.port)
    client = app.test_client()
    log_in(client)
    csrf = token(client)
    view = app.view_functions["pages.note"]

    def note_while_redis_dies():
        response = view()
        own_redis.kill()
        return response

    app.view_functions["pages.note"] = note_while_redis_dies
    assert_honest(*timed(lambda: client.post("/note", data={"csrf": csrf, "note": "x"})))


class _Mute(socketserver.BaseRequestHandler):
    """Accepts any password, then never answers; notes which commands came."""

    def handle(self):
        while data := self.request.recv(65536):
            self.server.commands.append(data.split(b"\r\n")[2].decode())
            if self.server.commands[-1] == "AUTH":
                self.request.sendall(b"+OK\r\n")


@pytest.fixture
def mute_redis():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mute) as server:
        server.daemon_threads = True
        server.commands = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_command_without_an_answer_is_not_sent_again(mute_redis):
    client = make_app(mute_redis.server_address[1]).test_client()
    client.set_cookie("session", make_id())
    assert_honest(*timed(lambda: client.post("/api/counter", json={})))
    assert mute_redis.commands == ["AUTH", "EVALSHA"], "and a connection begins with AUTH alone"


def test_a_mute_redis_is_asked_only_now_and_then(mute_redis):
    client = make_app(mute_redis.server_address[1]).test_client()
    client.set_cookie("session", make_id())
    for _ in range(3):
        client.get("/api/session")
    mute_redis.commands.clear()
    began = time.monotonic()
    answers = [timed(lambda: client.get("/api/session")) for _ in range(50)]
    assert time.monotonic() - began < 0.9, "no probe was due yet"
    for answer in answers:
        assert_honest(*answer)
    assert mute_redis.commands == []
    assert_honest(*timed(lambda: client.get("/readyz")))
    for path in ("/healthz", "/static/style.css"):
        assert client.get(path).status_code == 200
    time.sleep(1)
    threads = [threading.Thread(target=lambda: client.get("/api/session")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mute_redis.commands == ["AUTH", "EVALSHA"], "one of them was the probe"


def test_a_redis_that_is_well_again_is_used_within_two_seconds_of_the_last_failure(own_redis):
    client = make_app(own_redis.port).test_client()
    log_in(client)
    own_redis.pause()
    for _ in range(4):
        assert_honest(*timed(lambda: client.get("/api/session")))
    own_redis.resume()
    began = time.monotonic()
    while client.get("/api/session").status_code == 503:
        time.sleep(0.02)
    assert time.monotonic() - began < 2


def test_an_acl_that_forbids_is_503_and_no_logout(own_redis):
    client = make_app(own_redis.port).test_client()
    log_in(client)
    own_redis.admin.execute_command("ACL", "SETUSER", "app", "-hmget")
    for _ in range(10):  # Redis answers, so there is no reason to stop asking
        assert_honest(*timed(lambda: client.get("/api/session")))
    own_redis.admin.execute_command("ACL", "SETUSER", "app", "+hmget", "-evalsha")
    assert_honest(*timed(lambda: client.get("/api/session")))
    own_redis.admin.execute_command("ACL", "SETUSER", "app", "+evalsha")
    assert client.get("/api/session").status_code == 200


def test_wrong_credentials_are_503(own_redis):
    client = make_app(own_redis.port, APP_REDIS_PASSWORD="not the right one").test_client()
    assert_honest(*timed(lambda: client.get("/readyz")))
    assert_honest(*timed(lambda: log_in(client)))
