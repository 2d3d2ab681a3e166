"""How much one client may take, and that clients who dawdle keep nobody else waiting; a real nginx."""

import json
import resource
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from lib.ansible_runs import render_all, tool
from lib.cluster import eventually
from lib.rendered_nginx import Node, balancer

JSON, HTML = {"Accept": "application/json"}, {"Accept": "text/html"}
SLOW = 500  # clients at once
MANY = [f"127.0.{number // 200 + 1}.{number % 200 + 1}" for number in range(SLOW)]


# By name: what differs from the defaults.
CLUSTERS = {
    "default": {},
    "impatient": {
        "nginx_client_timeout": "1s",
        "nginx_requests_per_second": 1,
        "nginx_requests_burst": 5,
        "nginx_logins_per_minute": 6,
        "nginx_logins_burst": 2,
        "nginx_connections_per_client": 3,
        "nginx_trusted_proxies": ["127.0.0.1"],
    },
}


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    tool("nginx", "nginx-light")
    return render_all(tmp_path_factory, 1, CLUSTERS)


@pytest.fixture
def cluster(clusters):
    return clusters["default"]


@pytest.fixture
def impatient(clusters):
    """Low limits, and a second's patience."""
    return clusters["impatient"]


@pytest.fixture(autouse=True, scope="module")
def files():
    """Let this process have as many files open as it may: each client is one, and its node sees one more."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def bombard(lb, count, method, path, source="127.0.0.1", **options):
    """Statuses of requests over one connection, as fast as they go."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {lb.let_in['Cookie']}\r\nContent-Length: 0\r\n\r\n"
    statuses = []
    with lb.connect(source=source, **options) as connection:
        connection.sendall(head.encode() * count)
        answers = connection.makefile("rb")
        for _ in range(count):
            status, length = int(answers.readline().split()[1]), 0
            while line := answers.readline().strip():
                name, _, value = line.partition(b": ")
                length = int(value) if name == b"Content-Length" else length
            answers.read(length)
            statuses.append(status)
    return statuses


# --- rates ---


def test_the_defaults_let_an_office_work_and_log_in(tmp_path, cluster):
    """One address: 20 attempts to log in at once and one each 2 s; 200 requests at once and 100 each second."""
    with balancer(tmp_path, cluster, Node()) as lb:
        assert bombard(lb, 30, "POST", "/api/login") == [200] * 21 + [429] * 9
        time.sleep(0.3)  # those 30 are forgotten
        assert bombard(lb, 201, "GET", "/api/login") == [200] * 201
    for limit in ("rate=100r/s;", "rate=30r/m;", "limit_conn clients 200;"):
        assert limit in cluster.text("nginx.conf")


@pytest.mark.parametrize("path", ["/login", "/api/login", "/login?next=/", "//login", "/api/./login", "/%6cogin"])
def test_attempts_to_log_in_are_counted_however_the_path_is_spelt(tmp_path, impatient, path):
    node = Node()
    with balancer(tmp_path, impatient, node) as lb:
        assert bombard(lb, 5, "POST", path) == [200] * 3 + [429] * 2
        assert len(node.received) == 3
        # Others may; so may this one, elsewhere.
        assert bombard(lb, 1, "POST", path, source="127.0.0.2") == [200]
        assert bombard(lb, 1, "POST", "/counter") == [200]


@pytest.mark.parametrize("request_line", ["POST /sessions", "DELETE /api/sessions"])
def test_a_password_that_is_asked_for_again_is_an_attempt_to_log_in(tmp_path, impatient, request_line):
    method, path = request_line.split()
    with balancer(tmp_path, impatient, Node()) as lb:
        assert [each == 429 for each in bombard(lb, 5, method, path)] == [False] * 3 + [True] * 2
        assert bombard(lb, 1, "GET", path) == [200]


def test_a_client_that_asks_too_much_is_told_when_to_try_again(tmp_path, impatient):
    with balancer(tmp_path, impatient, Node()) as lb:
        bombard(lb, 3, "POST", "/login")
        for accept in (JSON, HTML):
            status, headers, body, _seconds = lb.ask("POST", "/login", accept)
            assert (status, headers["Retry-After"], headers["Content-Type"]) == (429, "10", accept["Accept"])
            assert "Too many attempts to log in" in body
            assert headers["X-Request-ID"] in body
            assert headers["X-Frame-Options"] == "DENY"
        bombard(lb, 6, "GET", "/")
        status, headers, body, _seconds = lb.ask(headers=JSON)
        assert (status, headers["Retry-After"]) == (429, "1")
        assert "Too many requests" in json.loads(body)["error"]


def test_an_app_that_limits_by_itself_is_passed_on(tmp_path, cluster):
    with balancer(tmp_path, cluster, Node(status=429, headers={"Retry-After": "77"})) as lb:
        status, headers, body, _seconds = lb.ask("POST", "/login")
    assert (status, headers.get_all("Retry-After"), body) == (429, ["77"], "own words")


@pytest.mark.parametrize(
    ("address", "neighbour", "stranger"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("2001:db8:0:1::7", "2001:db8:0:1:ffff::8", "2001:db8:0:2::7"),
        ("2001:db8:a0a:a0a:a0a:a0a:a0a:a0a", "2001:db8:a0a:a0a::a0a", "2001:db8:a0a:a0b::a0a"),  # line feeds
    ],
)
def test_a_household_is_one_client(tmp_path, impatient, address, neighbour, stranger):
    """Addresses are what a trusted balancer says, since one computer has no three networks."""
    with balancer(tmp_path, impatient, Node()) as lb:
        for client, status in [(address, 200)] * 3 + [(address, 429), (neighbour, 429), (stranger, 200)]:
            assert lb.ask("POST", "/login", {"X-Forwarded-For": client})[0] == status, client


# --- clients who dawdle ---


def head(lb, method="GET", path="/", more=""):
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {lb.let_in['Cookie']}\r\n{more}".encode()


def slow_header(lb, connection):
    connection.sendall(head(lb))


def slow_body(lb, connection):
    connection.sendall(head(lb, "POST", more="Content-Length: 50000\r\n\r\n") + b"x")


def slow_read(lb, connection):
    connection.sendall(head(lb, more="\r\n"))


def silent(lb, connection):
    """Nothing at all, after the handshake."""


@pytest.mark.parametrize("dawdle", [slow_header, slow_body, slow_read, silent])
def test_many_clients_who_dawdle_keep_nobody_waiting(tmp_path, cluster, dawdle):
    """500 at once, each from an address of its own."""
    node = Node(body=b"x" * 300_000)
    with balancer(tmp_path, cluster, node) as lb:

        def begin(source):
            connection = lb.connect(source=source)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            dawdle(lb, connection)
            return connection

        with ThreadPoolExecutor(8) as pool:
            connections = list(pool.map(begin, MANY))
        waits = [lb.ask(path="/others") for _ in range(20)]
        for connection in connections:
            connection.close()
    assert [status for status, *_ in waits] == [200] * 20
    assert max(seconds for *_, seconds in waits) < 1
    # Whoever sends slowly never got to the node.
    assert len(node.received) == 20 + (SLOW if dawdle is slow_read else 0)


def test_a_node_is_done_long_before_a_slow_reader(tmp_path, cluster):
    node = Node(body=b"x" * 12_000_000)  # more than all buffers on the way hold
    with balancer(tmp_path, cluster, node) as lb, ExitStack() as stack:
        for _ in range(3):
            slow_read(lb, stack.enter_context(lb.connect()))
        assert eventually(lambda: len(node.answered) == 3)


def test_one_client_has_so_many_requests_in_flight_and_no_more(tmp_path, impatient):
    with balancer(tmp_path, impatient, Node()) as lb, ExitStack() as stack:
        connections = [stack.enter_context(lb.connect()) for _ in range(3)]
        for connection in connections:
            slow_body(lb, connection)
        assert bombard(lb, 1, "GET", "/") == [429]
        assert bombard(lb, 1, "GET", "/", source="127.0.0.2") == [200]
        for connection in connections:
            connection.sendall(b"x" * 49_999)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert bombard(lb, 1, "GET", "/") == [200]


@pytest.mark.parametrize("dawdle", [slow_header, slow_body, slow_read, silent])
def test_who_dawdles_is_let_go(tmp_path, impatient, dawdle):
    node = Node(body=b"x" * 8_000_000)
    with balancer(tmp_path, impatient, node) as lb, lb.connect() as connection:
        begin = time.monotonic()
        dawdle(lb, connection)
        if dawdle is slow_read:
            time.sleep(2.5)  # not to read is what is tested
        connection.settimeout(10)
        received = 0
        try:
            while part := connection.recv(65536):
                received += len(part)
        except (ConnectionError, ssl.SSLError):
            pass
        assert 0.9 <= time.monotonic() - begin < 5
        assert received < 8_000_000
