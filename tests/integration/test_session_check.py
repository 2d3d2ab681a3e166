"""The session check: logins grow with the number of nodes, each kind of fault is named, TLS is verified by name."""

import ssl
import time
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
from lib.ansible_runs import load_module
from lib.certificates import Authority, Pair
from lib.demo_app import PASSWORD, USER, make_app
from lib.rendered_nginx import Node
from lib.stub_app import Sessions, StubNode
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

check = load_module("plugins/modules/session_check.py")
CREDENTIALS = {"username": "demo", "password": "secret"}
StartNodes = Callable[..., list[StubNode]]


@pytest.fixture
def start_nodes() -> Iterator[StartNodes]:
    """Starts nodes app1, app2 ...; `shared=False` gives each its own sessions."""
    nodes: list[StubNode] = []

    def start(number: int, shared: bool = True, **answers_as: str) -> list[StubNode]:
        sessions: Sessions = {}
        for name in (f"app{each}" for each in range(1, number + 1)):
            nodes.append(StubNode(name, sessions if shared else {}, answers_as.get(name, "")))
        return nodes

    yield start
    for node in nodes:
        node.close()


def run_check(nodes: list[StubNode]) -> tuple[Any, list[str], list[str]]:
    client = check.NodeClient({node.name: node.url for node in nodes}, 10)
    return client, *check.check_nodes(client, CREDENTIALS)


@pytest.mark.parametrize("number", [2, 16, 64])
def test_each_node_logs_in_once_and_is_read_on_every_other_one(start_nodes: StartNodes, number: int) -> None:
    nodes = start_nodes(number)
    start = time.monotonic()
    client, report, failures = run_check(nodes)
    print(f"{number} nodes: {len(client.sent)} requests in {time.monotonic() - start:.1f} s")
    assert failures == []
    others = number - 1
    assert report == [f"{node.name}: login, read on {others} other node{'s' * (others > 1)}: ok" for node in nodes]
    assert [sum(path == "/api/login" for _, path, _ in node.requests) for node in nodes] == [1] * number
    assert len(client.sent) == number * (others + 7)  # login, note, counter, two reads, logout, refused
    for node in nodes:  # each node reads the session of every other node, and of itself
        readers = {cookie.rpartition("session=")[2] for method, _, cookie in node.requests if method == "GET"}
        assert len(readers) == number
        assert {path for _, path, _ in node.requests} >= {"/api/note", "/api/counter", "/api/logout"}


def test_a_single_node_is_checked_against_itself(start_nodes: StartNodes) -> None:
    _client, report, failures = run_check(start_nodes(1))
    assert failures == []
    assert report == [
        "app1: login, read on the same node: ok",
        "a single app node: nothing is proven about a second one",
    ]


def test_sessions_that_are_not_shared_are_named_for_each_pair(start_nodes: StartNodes) -> None:
    _client, report, failures = run_check(start_nodes(2, shared=False))
    assert failures == ["logged in on app1, unknown on app2", "logged in on app2, unknown on app1"]
    assert report == [f"app1: {failures[0]}", f"app2: {failures[1]}"]


def test_a_line_stays_short_when_many_nodes_fail(start_nodes: StartNodes) -> None:
    _client, report, failures = run_check(start_nodes(16, shared=False))
    assert len(failures) == 16 * 15
    assert report[0] == (
        "app1: logged in on app1, unknown on app2; logged in on app1, unknown on app3;"
        " logged in on app1, unknown on app4; and 12 more failures"
    )


def test_only_the_node_with_its_own_sessions_is_named(start_nodes: StartNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It deletes the cookie of a session that it doesn't know; the reads after that still have the cookie."""
    monkeypatch.setattr(check, "READERS", 1)
    nodes = start_nodes(3)
    nodes[1].sessions = {}
    _client, _report, failures = run_check(nodes)
    assert failures == [
        "logged in on app1, unknown on app2",
        "logged in on app2, unknown on app1",
        "logged in on app2, unknown on app3",
        "logged in on app3, unknown on app2",
    ]


def test_a_counter_that_another_node_loses_is_noticed(start_nodes: StartNodes) -> None:
    nodes = start_nodes(3)
    nodes[1].loses_counter = True
    _client, report, failures = run_check(nodes)
    assert len(failures) == 1
    assert failures[0].startswith("logged in on app1, but app2 shows {'user': 'demo'")
    assert [line for line in report if line.endswith(": ok")] == report[1:]


def test_a_session_that_outlives_its_logout_is_noticed(start_nodes: StartNodes) -> None:
    nodes = start_nodes(3)
    nodes[0].keeps_ended_sessions = True
    _client, _report, failures = run_check(nodes)
    assert failures == ["logged out on app1, still known on app2 (status 200)"]


def test_a_step_counts_only_if_the_intended_node_has_answered(start_nodes: StartNodes) -> None:
    _client, _report, failures = run_check(start_nodes(2, app2="app1"))
    assert failures == ["app2 was expected, but app1 answered"] * 2


def test_the_device_of_the_first_login_is_known_at_the_next_ones(start_nodes: StartNodes) -> None:
    """While an account is attacked, the login limiter delays each login of an unknown device by half a minute."""
    nodes = start_nodes(3)
    run_check(nodes)
    logins = [cookie for node in nodes for _, path, cookie in node.requests if path == "/api/login"]
    assert logins == ["", "__Host-device=known", "__Host-device=known"]


def test_through_the_balancer_every_node_must_answer_and_no_other(start_nodes: StartNodes) -> None:
    (node,) = start_nodes(1)
    check.check_balancer(node.url, ["app1"], CREDENTIALS, check.Client(10))
    with pytest.raises(check.SessionCheckError, match="the balancer never used app2"):
        check.check_balancer(node.url, ["app1", "app2"], CREDENTIALS, check.Client(10), seconds=0.1)
    node.answers_as = "app9"
    with pytest.raises(check.SessionCheckError, match="the balancer never used app1"):
        check.check_balancer(node.url, ["app1"], CREDENTIALS, check.Client(10), seconds=0.1)
    with pytest.raises(check.SessionCheckError, match="the balancer uses app9, which the inventory doesn't list"):
        check.check_balancer(node.url, [], CREDENTIALS, check.Client(10))


def test_many_failures_are_shortened() -> None:
    assert check.shorten(["a", "b", "c"]) == "a; b; c"
    assert check.shorten(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more failures"


@pytest.fixture
def start_demo_app(shared_redis: Any) -> Iterator[Callable[..., dict[str, str]]]:
    """Starts nodes with the demo app in this process; returns their URLs by name."""
    servers: list[BaseWSGIServer] = []

    def start(number: int, **settings: str) -> dict[str, str]:
        urls = {}
        for name in (f"app{each}" for each in range(1, number + 1)):
            app = make_app(shared_redis.port, APP_NODE=name, **settings)
            server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
            Thread(target=server.serve_forever, daemon=True).start()
            servers.append(server)
            urls[name] = f"http://127.0.0.1:{server.server_port}"
        return urls

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Quiet(WSGIRequestHandler):
    def log_request(self, *_: Any) -> None:
        """Keep the output of tests clean."""


def check_demo_app(urls: dict[str, str]) -> list[str]:
    report, failures = check.check_nodes(check.NodeClient(urls, 10), {"username": USER, "password": PASSWORD})
    assert len(report) == len(urls)
    return list(failures)


def test_nodes_of_the_demo_app_share_logins(start_demo_app: Callable[..., dict[str, str]]) -> None:
    """With a single session for each user, too: the check needs no second one at a time."""
    assert check_demo_app(start_demo_app(4)) == []
    assert check_demo_app(start_demo_app(2, APP_SESSIONS_PER_USER="1")) == []


def test_nodes_that_keep_sessions_in_memory_are_noticed(start_demo_app: Callable[..., dict[str, str]]) -> None:
    failures = check_demo_app(start_demo_app(2, APP_SESSION_STORE="memory"))
    assert failures == ["logged in on app1, unknown on app2", "logged in on app2, unknown on app1"]


@pytest.fixture
def authority(tmp_path: Any) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def balancer() -> Iterator[Callable[[Pair], int]]:
    """Starts a TLS server on loopback with a certificate; returns its port."""
    nodes: list[Node] = []

    def start(pair: Pair) -> int:
        node = Node()
        nodes.append(node)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pair.certificate, pair.key)
        node.socket = tls.wrap_socket(node.socket, server_side=True)
        return int(node.server_port)

    yield start
    for node in nodes:
        node.close()


def status(port: int, ca_file: Any) -> int:
    client = check.Client(10, address="127.0.0.1", tls=check.tls_context(ca_file))
    return int(client.request("GET", f"https://shop.example:{port}/").status)


def test_a_certificate_is_verified_for_the_name_whatever_the_address(
    balancer: Callable[[Pair], int], authority: Authority
) -> None:
    """By its CA, or by the certificate itself if its CA is unknown."""
    pair = authority.issue("shop.example")
    port = balancer(pair)
    assert status(port, pair.ca) == 200
    assert status(port, pair.certificate) == 200


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [(["other.example"], {}, "mismatch"), (["shop.example"], {"begins": -2, "days": -1}, "has expired")],
)
def test_a_certificate_that_browsers_refuse_is_refused(
    balancer: Callable[[Pair], int], authority: Authority, names: list[str], options: dict[str, Any], message: str
) -> None:
    pair = authority.issue(*names, **options)
    port = balancer(pair)
    for ca_file in (pair.ca, pair.certificate):
        with pytest.raises(check.HttpError, match=message):
            status(port, ca_file)


def test_a_certificate_of_another_ca_is_refused(
    balancer: Callable[[Pair], int], authority: Authority, tmp_path: Any
) -> None:
    port = balancer(Authority(tmp_path, "other").issue("shop.example"))
    with pytest.raises(check.HttpError, match="certificate verify failed"):
        status(port, authority.issue("shop.example").ca)
