"""What happens when Redis doesn't answer: an honest 503, soon, and no harm."""

import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection

import pytest
from anynode.sessions.ids import make_id
from lib.demo_app import USER, assert_honest, log_in, make_app, session_cookie, timed, token, visit, when_well
from lib.gunicorn_nodes import start_node, wait_until_it_serves
from lib.redis_server import ACL_COMMANDS, PREFIX, REDIS_PASSWORD, free_port

# What a visitor may ask for that needs a session
READS = [
    lambda visitor: visitor.get("/api/session"),
    lambda visitor: visitor.get("/"),
    lambda visitor: visitor.get("/sessions"),
]
WRITES = [
    lambda visitor: visitor.post("/api/counter", json={}),
    lambda visitor: visitor.put("/api/note", json={"note": "x"}),
    lambda visitor: log_in(visitor.application.test_client()),
]
# These may be done though nobody hears of it, and then they end the visitor's session.
ENDS = [
    lambda visitor: visitor.post("/api/logout", json={}),
    lambda visitor: log_in(visitor),
]


# Illnesses: what each of them does to the server or to the wire is mended at its end


@contextmanager
def is_killed(server):
    server.kill()
    yield
    server.start()


@contextmanager
def hangs(server):
    server.pause()
    yield
    server.resume()


@contextmanager
def is_read_only(server):
    server.admin.replicaof("127.0.0.1", free_port())
    yield
    server.admin.replicaof("NO", "ONE")


@contextmanager
def is_full(server):
    server.admin.config_set("maxmemory", 1)
    yield
    server.admin.config_set("maxmemory", 0)


@contextmanager
def lacks_replicas(server):
    server.admin.config_set("min-replicas-to-write", 1)
    yield
    server.admin.config_set("min-replicas-to-write", 0)


@contextmanager
def is_loading(server):
    with server.admin.pipeline() as pipeline:
        for number in range(5000):
            pipeline.set(f"{PREFIX}ballast:{number}", "x" * 50, ex=1000)
        pipeline.execute()
    server.admin.bgrewriteaof()  # loads key by key then, and answers in between
    while server.admin.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.02)
    server.kill()
    server.start("--key-load-delay 2000 --loading-process-events-interval-bytes 1024")
    yield
    assert server.admin.info("persistence")["loading"], "all the time"
    server.admin.config_set("key-load-delay", 0)


@contextmanager
def has_another_password(server):
    server.admin.execute_command("ACL", "SETUSER", "app", "resetpass", ">another one")
    server.admin.client_kill_filter(user="app")
    yield
    server.admin.execute_command("ACL", "SETUSER", "app", "resetpass", f">{REDIS_PASSWORD}")


@contextmanager
def forbids(server):
    server.admin.execute_command("ACL", "SETUSER", "app", "-@all")
    yield
    server.admin.execute_command("ACL", "SETUSER", "app", *ACL_COMMANDS.split())


@contextmanager
def drops_packets(wire):
    wire.is_dead = True
    with wire.swallowing_connections():
        yield
    wire.is_dead = False


@contextmanager
def is_dead(wire):
    wire.is_dead = True
    yield
    wire.is_dead = False


@contextmanager
def is_slow(wire):
    wire.delay = 0.5
    yield
    wire.delay = 0


@contextmanager
def is_garbled(wire):
    wire.garbage = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    yield
    wire.garbage = None


@pytest.mark.every_server
@pytest.mark.parametrize("illness", [is_read_only, is_loading, has_another_password, forbids])
def test_no_harm_while_the_server(illness, own_redis):
    assert_harmless(own_redis.port, illness(own_redis))


@pytest.mark.parametrize("illness", [is_killed, hangs])
def test_no_harm_while_the_process(illness, own_redis):
    assert_harmless(own_redis.port, illness(own_redis))


@pytest.mark.parametrize("illness", [drops_packets, is_dead, is_slow, is_garbled])
def test_no_harm_while_the_wire(illness, wire):
    assert_harmless(wire.port, illness(wire))


def assert_harmless(port, illness):
    """While it lasts, what needs a session is 503 within a second, and nothing else is; then all is well."""
    calls = [*READS, *WRITES, *ENDS]
    visitors = [visit(port, is_connected) for is_connected in (True, False) for _ in calls]
    cookies = [session_cookie(each) for each in visitors]
    patient = visit(port)
    with illness, ThreadPoolExecutor(10) as threads:
        tried = [partial(call, each) for call, each in zip(calls * 2, visitors, strict=True)]
        for answer in threads.map(timed, tried):
            assert_honest(*answer)
        for _ in range(4):  # one failure opens nobody's circuit breaker, these do
            assert_honest(*timed(lambda: patient.get("/")))
        assert "Nothing is lost" in patient.get("/").text
        assert "Nothing is lost" in patient.get("/api/session").json["error"]
        for path in ("/healthz", "/static/style.css"):
            assert patient.get(path).status_code == 200
        assert patient.application.test_client().get("/").status_code == 200, "who has no session needs none"
    response, seconds = timed(partial(when_well, partial(patient.get, "/api/session")))
    assert seconds < 2
    assert (response.json["user"], response.json["counter"]) == (USER, 0)
    assert when_well(partial(patient.post, "/api/counter", json={})).status_code == 200
    assert [session_cookie(each) for each in visitors] == cookies, "nobody was logged out"
    for call, each in zip(calls * 2, visitors, strict=True):
        if call not in ENDS:
            assert when_well(partial(each.get, "/api/session")).json["counter"] in (0, 1), "nothing was done twice"


@pytest.mark.every_server
def test_a_full_redis_still_reads_and_ends_sessions(own_redis, unhurried):
    visitor, leaving = visit(own_redis.port), visit(own_redis.port)
    with is_full(own_redis):
        for key in own_redis.session_keys():
            own_redis.admin.pexpire(key, 900_000)  # half of the idle time, so a read moves it
        for read in READS:
            assert read(visitor).status_code == 200
        for write in (*WRITES, log_in):
            assert_honest(*timed(partial(write, visitor)))
        cookie = session_cookie(leaving)
        assert leaving.post("/api/logout", json={}).status_code == 200
        leaving.set_cookie("session", cookie)
        assert leaving.get("/api/session").status_code == 401
    assert visitor.post("/api/counter", json={}).json == {"counter": 1}


@pytest.mark.every_server
@pytest.mark.parametrize("illness", [is_read_only, is_full, lacks_replicas, is_loading, forbids])
def test_a_node_is_not_ready_while_the_server(illness, own_redis, unhurried):
    client = make_app(own_redis.port).test_client()
    assert client.get("/readyz").status_code == 200
    with illness(own_redis):
        assert_honest(*timed(lambda: client.get("/readyz")))
    assert when_well(lambda: client.get("/readyz")).status_code == 200


def test_where_the_name_leads_now_is_asked_when_a_primary_has_become_a_replica(own_redis, redis, wire, unhurried):
    wire.target = own_redis.port
    client = make_app(wire.port).test_client()
    assert log_in(client).status_code == 200
    own_redis.admin.replicaof("127.0.0.1", redis.port)
    wire.target = redis.port
    assert_honest(*timed(partial(log_in, client)))
    assert log_in(client).status_code == 200
    own_redis.admin.replicaof("NO", "ONE")


@pytest.mark.every_server
def test_scripts_that_redis_forgot_are_loaded_again(redis, unhurried):
    for call in (*READS, *WRITES, *ENDS):
        visitor = visit(redis.port)
        redis.admin.script_flush()
        assert call(visitor).status_code == 200
        assert visitor.get("/api/session").status_code == (401 if call is ENDS[0] else 200)


def test_all_threads_at_once_get_their_503_within_a_second(wire):
    app = make_app(wire.port)
    wire.is_dead = True
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
    now = 0.0
    client.application.session_interface.store._breaker._clock = lambda: now
    for _ in range(3):
        client.get("/api/session")
    mute_redis.commands.clear()
    for _ in range(50):
        assert_honest(*timed(lambda: client.get("/api/session")))
    assert mute_redis.commands == []
    assert_honest(*timed(lambda: client.get("/readyz")))
    for path in ("/healthz", "/static/style.css"):
        assert client.get(path).status_code == 200
    now = 1.0
    threads = [threading.Thread(target=lambda: client.get("/api/session")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mute_redis.commands == ["AUTH", "EVALSHA"], "one of them was the probe"


def test_a_few_threads_answer_what_needs_no_session_while_many_ask_for_theirs(mute_redis, tmp_path):
    log = tmp_path / "log"
    with log.open("w") as file:
        node, port = start_node(mute_redis.server_address[1], file, workers=1, threads=4)
    try:
        wait_until_it_serves(port, log)
        asked = [HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(40)]
        began = time.monotonic()
        for each in asked:
            each.request("GET", "/api/session", headers={"Cookie": f"session={make_id()}", "Connection": "close"})
        wait_until_it_serves(port, log)
        seconds = [time.monotonic() - began]
        for each in asked:
            response = each.getresponse()
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            seconds.append(time.monotonic() - began)
        assert max(seconds) < 1
    finally:
        node.terminate()
        node.wait(20)


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
