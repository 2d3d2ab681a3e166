"""Outages of Redis: a quick 503, no logout, and recovery."""

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_shared_session.ids import make_id
from lib.app_nodes import start_node, stop_nodes, wait_until_healthy
from lib.demo_app import (
    USER,
    assert_unavailable,
    environ,
    log_in,
    logged_in_client,
    make_app,
    retry_503,
    session_cookie,
    store_of,
    timed,
    token,
)
from lib.fault_proxy import FaultProxy
from lib.redis_server import ACL_COMMANDS, PREFIX, REDIS_PASSWORD, RedisServer, free_port
from werkzeug.test import TestResponse

Send = Callable[[FlaskClient], TestResponse]

# Requests that need a session
READS: list[Send] = [
    lambda client: client.get("/api/session"),
    lambda client: client.get("/"),
    lambda client: client.get("/sessions"),
]
WRITES: list[Send] = [
    lambda client: client.post("/api/counter", json={}),
    lambda client: client.put("/api/note", json={"note": "x"}),
    lambda client: log_in(client.application.test_client()),
]
# Even if their response is lost, these may end the client's session.
ENDS: list[Send] = [
    lambda client: client.post("/api/logout", json={}),
    lambda client: log_in(client),
]


# Faults of the server or of the proxy; each fault is removed at the end of its block


@contextmanager
def is_killed(server: RedisServer) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextmanager
def hangs(server: RedisServer) -> Iterator[None]:
    server.pause()
    yield
    server.resume()


@contextmanager
def is_read_only(server: RedisServer) -> Iterator[None]:
    server.admin.replicaof("127.0.0.1", free_port())
    yield
    server.admin.replicaof("NO", "ONE")


@contextmanager
def is_full(server: RedisServer) -> Iterator[None]:
    server.admin.config_set("maxmemory", 1)
    yield
    server.admin.config_set("maxmemory", 0)


@contextmanager
def lacks_replicas(server: RedisServer) -> Iterator[None]:
    server.admin.config_set("min-replicas-to-write", 1)
    yield
    server.admin.config_set("min-replicas-to-write", 0)


@contextmanager
def is_loading(server: RedisServer) -> Iterator[None]:
    with server.admin.pipeline() as pipeline:
        for number in range(5000):
            pipeline.set(f"{PREFIX}ballast:{number}", "x" * 50, ex=1000)
        pipeline.execute()
    server.admin.bgrewriteaof()  # the server then loads key by key, and answers meanwhile
    while server.admin.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.02)
    server.kill()
    server.start("--key-load-delay 2000 --loading-process-events-interval-bytes 1024")
    yield
    assert server.admin.info("persistence")["loading"], "until the end of the block"
    server.admin.config_set("key-load-delay", 0)


@contextmanager
def has_another_password(server: RedisServer) -> Iterator[None]:
    server.admin.execute_command("ACL", "SETUSER", "app", "resetpass", ">another one")
    server.admin.client_kill_filter(user="app")
    yield
    server.admin.execute_command("ACL", "SETUSER", "app", "resetpass", f">{REDIS_PASSWORD}")


@contextmanager
def forbids(server: RedisServer) -> Iterator[None]:
    server.admin.execute_command("ACL", "SETUSER", "app", "-@all")
    yield
    server.admin.execute_command("ACL", "SETUSER", "app", *ACL_COMMANDS.split())


@contextmanager
def drops_packets(fault_proxy: FaultProxy) -> Iterator[None]:
    fault_proxy.drops_data = True
    with fault_proxy.ignoring_connections():
        yield
    fault_proxy.drops_data = False


@contextmanager
def drops_data(fault_proxy: FaultProxy) -> Iterator[None]:
    fault_proxy.drops_data = True
    yield
    fault_proxy.drops_data = False


@contextmanager
def is_slow(fault_proxy: FaultProxy) -> Iterator[None]:
    fault_proxy.delay = 0.5
    yield
    fault_proxy.delay = 0


@contextmanager
def is_garbled(fault_proxy: FaultProxy) -> Iterator[None]:
    fault_proxy.garbage = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    yield
    fault_proxy.garbage = None


@pytest.mark.every_server
@pytest.mark.parametrize("fault", [is_read_only, is_loading, has_another_password, forbids])
def test_the_app_tolerates_a_faulty_server(
    fault: Callable[[RedisServer], AbstractContextManager[None]], own_redis: RedisServer
) -> None:
    assert_tolerated(own_redis.port, fault(own_redis))


@pytest.mark.parametrize("fault", [is_killed, hangs])
def test_the_app_tolerates_a_faulty_process(
    fault: Callable[[RedisServer], AbstractContextManager[None]], own_redis: RedisServer
) -> None:
    assert_tolerated(own_redis.port, fault(own_redis))


@pytest.mark.parametrize("fault", [drops_packets, drops_data, is_slow, is_garbled])
def test_the_app_tolerates_a_faulty_network(
    fault: Callable[[FaultProxy], AbstractContextManager[None]], fault_proxy: FaultProxy
) -> None:
    assert_tolerated(fault_proxy.port, fault(fault_proxy))


def assert_tolerated(port: int, fault: AbstractContextManager[None]) -> None:
    """During the fault, only requests that need a session are 503, within a second; afterwards all succeed again."""
    calls = [*READS, *WRITES, *ENDS]
    clients = [logged_in_client(port, is_connected) for is_connected in (True, False) for _ in calls]
    cookies = [session_cookie(each) for each in clients]
    active = logged_in_client(port)
    with fault, ThreadPoolExecutor(10) as threads:
        requests = [partial(call, each) for call, each in zip(calls * 2, clients, strict=True)]
        for result in threads.map(timed, requests):
            assert_unavailable(*result)
        for _ in range(4):  # unlike a single failure, these open the circuit breaker
            assert_unavailable(*timed(lambda: active.get("/")))
        assert "you are still logged in" in active.get("/").text
        assert "you are still logged in" in active.get("/api/session").get_json()["error"]
        for path in ("/healthz", "/static/style.css"):
            assert active.get(path).status_code == 200
        assert active.application.test_client().get("/").status_code == 200, "without a session"
    response, seconds = timed(partial(retry_503, partial(active.get, "/api/session")))
    assert seconds < 2
    assert (response.get_json()["user"], response.get_json()["counter"]) == (USER, 0)
    assert retry_503(partial(active.post, "/api/counter", json={})).status_code == 200
    assert [session_cookie(each) for each in clients] == cookies, "no client was logged out"
    for call, each in zip(calls * 2, clients, strict=True):
        if call not in ENDS:
            assert retry_503(partial(each.get, "/api/session")).get_json()["counter"] in (0, 1), (
                "no write happened twice"
            )


@pytest.mark.every_server
def test_a_full_redis_still_reads_and_ends_sessions(own_redis: RedisServer, long_timeouts: None) -> None:
    client, leaving = logged_in_client(own_redis.port), logged_in_client(own_redis.port)
    with is_full(own_redis):
        for key in own_redis.session_keys():
            own_redis.admin.pexpire(key, 900_000)  # half of the idle time, so a read extends it
        for read in READS:
            assert read(client).status_code == 200
        for write in (*WRITES, log_in):
            assert_unavailable(*timed(partial(write, client)))
        cookie = session_cookie(leaving)
        assert cookie
        assert leaving.post("/api/logout", json={}).status_code == 200
        leaving.set_cookie("session", cookie)
        assert leaving.get("/api/session").status_code == 401
    assert client.post("/api/counter", json={}).json == {"counter": 1}


@pytest.mark.every_server
@pytest.mark.parametrize("fault", [is_read_only, is_full, lacks_replicas, is_loading, forbids])
def test_a_node_is_not_ready_while_the_server(
    fault: Callable[[RedisServer], AbstractContextManager[None]], own_redis: RedisServer, long_timeouts: None
) -> None:
    client = make_app(own_redis.port).test_client()
    assert client.get("/readyz").status_code == 200
    with fault(own_redis):
        assert_unavailable(*timed(lambda: client.get("/readyz")))
    assert retry_503(lambda: client.get("/readyz")).status_code == 200


def test_the_name_is_resolved_again_when_a_primary_has_become_a_replica(
    own_redis: RedisServer, redis: RedisServer, fault_proxy: FaultProxy, long_timeouts: None
) -> None:
    fault_proxy.target = own_redis.port
    client = make_app(fault_proxy.port).test_client()
    assert log_in(client).status_code == 200
    own_redis.admin.replicaof("127.0.0.1", redis.port)
    fault_proxy.target = redis.port
    assert_unavailable(*timed(partial(log_in, client)))
    assert log_in(client).status_code == 200
    own_redis.admin.replicaof("NO", "ONE")


@pytest.mark.every_server
def test_scripts_lost_by_redis_are_loaded_again(redis: RedisServer, long_timeouts: None) -> None:
    for call in (*READS, *WRITES, *ENDS):
        client = logged_in_client(redis.port)
        redis.admin.script_flush()
        assert call(client).status_code == 200
        assert client.get("/api/session").status_code == (401 if call is ENDS[0] else 200)


def test_all_threads_answer_503_within_a_second(fault_proxy: FaultProxy) -> None:
    app = make_app(fault_proxy.port)
    fault_proxy.drops_data = True
    results = []

    def work() -> None:
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
        assert_unavailable(response, seconds)


def test_a_redis_that_dies_during_the_view_is_503(own_redis: RedisServer) -> None:
    app = make_app(own_redis.port)
    client = app.test_client()
    log_in(client)
    csrf = token(client)
    view = app.view_functions["pages.note"]

    def note_while_redis_dies() -> Any:
        response = view()
        own_redis.kill()
        return response

    app.view_functions["pages.note"] = note_while_redis_dies
    assert_unavailable(*timed(lambda: client.post("/note", data={"csrf": csrf, "note": "x"})))


class _MuteServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Mute)
        self.commands: list[str] = []
        self.port: int = self.server_address[1]


class _Mute(socketserver.BaseRequestHandler):
    """Accepts any password, then never replies; records the received commands."""

    server: _MuteServer

    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.server.commands.append(data.split(b"\r\n")[2].decode())
            if self.server.commands[-1] == "AUTH":
                self.request.sendall(b"+OK\r\n")


@pytest.fixture
def mute_redis() -> Iterator[_MuteServer]:
    with _MuteServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_command_without_a_reply_is_not_sent_again(mute_redis: _MuteServer) -> None:
    client = make_app(mute_redis.port).test_client()
    client.set_cookie("session", make_id())
    assert_unavailable(*timed(lambda: client.post("/api/counter", json={})))
    assert mute_redis.commands == ["AUTH", "EVALSHA"], "a connection starts with AUTH only"


def test_a_redis_that_never_replies_is_rarely_queried(mute_redis: _MuteServer) -> None:
    client = make_app(mute_redis.port).test_client()
    client.set_cookie("session", make_id())
    now = 0.0
    store_of(client.application)._breaker._clock = lambda: now
    for _ in range(3):
        client.get("/api/session")
    mute_redis.commands.clear()
    for _ in range(50):
        assert_unavailable(*timed(lambda: client.get("/api/session")))
    assert mute_redis.commands == []
    assert_unavailable(*timed(lambda: client.get("/readyz")))
    for path in ("/healthz", "/static/style.css"):
        assert client.get(path).status_code == 200
    now = 1.0
    threads = [threading.Thread(target=lambda: client.get("/api/session")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mute_redis.commands == ["AUTH", "EVALSHA"], "a single probe"


def test_a_few_threads_serve_requests_without_a_session_while_many_wait_for_redis(
    mute_redis: _MuteServer, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("w") as file:
        node, port = start_node(environ(mute_redis.port), file, workers=1, threads=4)
    try:
        wait_until_healthy(port, log)
        connections = [HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(40)]
        began = time.monotonic()
        for each in connections:
            each.request("GET", "/api/session", headers={"Cookie": f"session={make_id()}", "Connection": "close"})
        wait_until_healthy(port, log)
        seconds = [time.monotonic() - began]
        for each in connections:
            response = each.getresponse()
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            seconds.append(time.monotonic() - began)
        assert max(seconds) < 1
    finally:
        stop_nodes([node])


def test_an_acl_that_denies_is_503_and_no_logout(own_redis: RedisServer) -> None:
    client = make_app(own_redis.port).test_client()
    log_in(client)
    own_redis.admin.execute_command("ACL", "SETUSER", "app", "-hmget")
    for _ in range(10):  # Redis answers, so the circuit breaker stays closed
        assert_unavailable(*timed(lambda: client.get("/api/session")))
    own_redis.admin.execute_command("ACL", "SETUSER", "app", "+hmget", "-evalsha")
    assert_unavailable(*timed(lambda: client.get("/api/session")))
    own_redis.admin.execute_command("ACL", "SETUSER", "app", "+evalsha")
    assert client.get("/api/session").status_code == 200
