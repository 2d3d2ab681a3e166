"""Limits of each client, and slow clients, which must not delay others: a real nginx."""

import json
import resource
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from lib.ansible_runs import Cluster, render_all, tool
from lib.cluster import eventually
from lib.rendered_nginx import Balancer, Node, balancer

JSON, HTML = {"Accept": "application/json"}, {"Accept": "text/html"}
SLOW = 500  # clients at once
MANY = [f"127.0.{number // 200 + 1}.{number % 200 + 1}" for number in range(SLOW)]

# Variables that differ from the defaults, by name.
CLUSTERS: dict[str, dict[str, Any]] = {
    "default": {},
    "strict": {
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
def clusters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cluster]:
    tool("nginx", "nginx-light")
    return render_all(tmp_path_factory, 1, CLUSTERS, limit="nginx")


@pytest.fixture
def cluster(clusters: dict[str, Cluster]) -> Cluster:
    return clusters["default"]


@pytest.fixture
def strict(clusters: dict[str, Cluster]) -> Cluster:
    """Low limits, and a timeout of a second."""
    return clusters["strict"]


@pytest.fixture(autouse=True, scope="module")
def files() -> None:
    """Raise the limit of open files: each client needs a file, and its node another."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def burst(lb: Balancer, count: int, method: str, path: str, source: str = "127.0.0.1") -> list[int]:
    """Send requests over a connection without waiting; return their statuses."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {lb.bypass['Cookie']}\r\nContent-Length: 0\r\n\r\n"
    statuses = []
    with lb.connect(source=source) as connection:
        connection.sendall(head.encode() * count)
        received = connection.makefile("rb")
        for _ in range(count):
            status, length = int(received.readline().split()[1]), 0
            while line := received.readline().strip():
                name, _, value = line.partition(b": ")
                length = int(value) if name == b"Content-Length" else length
            received.read(length)
            statuses.append(status)
    return statuses


# --- rates ---


def test_the_defaults_suit_an_office_with_a_shared_address(tmp_path: Path, cluster: Cluster) -> None:
    """A burst of 20 attempts to log in and another every 2 s; a burst of 200 requests and 100 per second."""
    with balancer(tmp_path, cluster, Node()) as lb:
        assert burst(lb, 30, "POST", "/api/login") == [200] * 21 + [429] * 9
        time.sleep(0.3)  # the limit of all requests has recovered
        assert burst(lb, 201, "GET", "/api/login") == [200] * 201
    for limit in ("rate=100r/s;", "rate=30r/m;", "limit_conn clients 200;"):
        assert limit in cluster.text("nginx.conf")


@pytest.mark.parametrize("path", ["/login", "/api/login", "/login?next=/", "//login", "/api/./login", "/%6cogin"])
def test_attempts_to_log_in_are_counted_for_all_spellings_of_the_path(
    tmp_path: Path, strict: Cluster, path: str
) -> None:
    node = Node()
    with balancer(tmp_path, strict, node) as lb:
        assert burst(lb, 5, "POST", path) == [200] * 3 + [429] * 2
        assert len(node.received) == 3
        # Other clients and other paths are not affected.
        assert burst(lb, 1, "POST", path, source="127.0.0.2") == [200]
        assert burst(lb, 1, "POST", "/counter") == [200]


@pytest.mark.parametrize("request_line", ["POST /sessions", "DELETE /api/sessions"])
def test_a_repeated_password_prompt_is_an_attempt_to_log_in(tmp_path: Path, strict: Cluster, request_line: str) -> None:
    method, path = request_line.split()
    with balancer(tmp_path, strict, Node()) as lb:
        assert [each == 429 for each in burst(lb, 5, method, path)] == [False] * 3 + [True] * 2
        assert burst(lb, 1, "GET", path) == [200]


def test_a_limited_client_gets_retry_after(tmp_path: Path, strict: Cluster) -> None:
    with balancer(tmp_path, strict, Node()) as lb:
        burst(lb, 3, "POST", "/login")
        for accept in (JSON, HTML):
            status, headers, body, _seconds = lb.request("POST", "/login", accept)
            assert (status, headers["Retry-After"], headers["Content-Type"]) == (429, "10", accept["Accept"])
            assert "Too many attempts to log in" in body
            assert headers["X-Request-ID"] in body
            assert headers["X-Frame-Options"] == "DENY"
        burst(lb, 6, "GET", "/")
        status, headers, body, _seconds = lb.request(headers=JSON)
        assert (status, headers["Retry-After"]) == (429, "1")
        assert "Too many requests" in json.loads(body)["error"]


def test_a_429_of_the_app_is_forwarded(tmp_path: Path, cluster: Cluster) -> None:
    with balancer(tmp_path, cluster, Node(status=429, headers={"Retry-After": "77"})) as lb:
        status, headers, body, _seconds = lb.request("POST", "/login")
    assert (status, headers.get_all("Retry-After"), body) == (429, ["77"], "from the node")


@pytest.mark.parametrize(
    ("address", "neighbor", "other"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("2001:db8:0:1::7", "2001:db8:0:1:ffff::8", "2001:db8:0:2::7"),
        ("2001:db8:a0a:a0a:a0a:a0a:a0a:a0a", "2001:db8:a0a:a0a::a0a", "2001:db8:a0a:a0b::a0a"),  # line feeds
    ],
)
def test_an_ipv4_address_or_ipv6_network_is_a_client(
    tmp_path: Path, strict: Cluster, address: str, neighbor: str, other: str
) -> None:
    """The addresses come from a trusted proxy, since this computer has only loopback addresses."""
    with balancer(tmp_path, strict, Node()) as lb:
        for client, status in [(address, 200)] * 3 + [(address, 429), (neighbor, 429), (other, 200)]:
            assert lb.request("POST", "/login", {"X-Forwarded-For": client})[0] == status, client


# --- slow clients ---


def head(lb: Balancer, method: str = "GET", path: str = "/", more: str = "") -> bytes:
    """Return the begin of a request that bypasses maintenance mode."""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {lb.bypass['Cookie']}\r\n{more}".encode()


def slow_header(lb: Balancer, connection: Any) -> None:
    connection.sendall(head(lb))


def slow_body(lb: Balancer, connection: Any) -> None:
    connection.sendall(head(lb, "POST", more="Content-Length: 50000\r\n\r\n") + b"x")


def slow_read(lb: Balancer, connection: Any) -> None:
    connection.sendall(head(lb, more="\r\n"))


def silent(lb: Balancer, connection: Any) -> None:
    """Send nothing after the handshake."""


@pytest.mark.parametrize("slow", [slow_header, slow_body, slow_read, silent])
def test_many_slow_clients_do_not_delay_others(
    tmp_path: Path, cluster: Cluster, slow: Callable[[Balancer, Any], None]
) -> None:
    """500 at once, each from another address."""
    node = Node(body=b"x" * 300_000)
    with balancer(tmp_path, cluster, node) as lb:

        def begin(source: str) -> Any:
            connection = lb.connect(source=source)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow(lb, connection)
            return connection

        with ThreadPoolExecutor(8) as pool:
            connections = list(pool.map(begin, MANY))
        waits = [lb.request(path="/others") for _ in range(20)]
        for connection in connections:
            connection.close()
    assert [status for status, *_ in waits] == [200] * 20
    assert max(seconds for *_, seconds in waits) < 1
    # Incomplete requests never reach the node.
    assert len(node.received) == 20 + (SLOW if slow is slow_read else 0)


def test_a_node_does_not_wait_for_a_slow_reader(tmp_path: Path, cluster: Cluster) -> None:
    node = Node(body=b"x" * 12_000_000)  # more than all buffers between node and client
    with balancer(tmp_path, cluster, node) as lb, ExitStack() as stack:
        for _ in range(3):
            slow_read(lb, stack.enter_context(lb.connect()))
        assert eventually(lambda: len(node.answered) == 3)


def test_requests_in_progress_of_a_client_are_limited(tmp_path: Path, strict: Cluster) -> None:
    with balancer(tmp_path, strict, Node()) as lb, ExitStack() as stack:
        connections = [stack.enter_context(lb.connect()) for _ in range(3)]
        for connection in connections:
            slow_body(lb, connection)
        assert burst(lb, 1, "GET", "/") == [429]
        assert burst(lb, 1, "GET", "/", source="127.0.0.2") == [200]
        for connection in connections:
            connection.sendall(b"x" * 49_999)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert burst(lb, 1, "GET", "/") == [200]


@pytest.mark.parametrize("slow", [slow_header, slow_body, slow_read, silent])
def test_slow_clients_are_disconnected(tmp_path: Path, strict: Cluster, slow: Callable[[Balancer, Any], None]) -> None:
    node = Node(body=b"x" * 8_000_000)
    with balancer(tmp_path, strict, node) as lb, lb.connect() as connection:
        begin = time.monotonic()
        slow(lb, connection)
        if slow is slow_read:
            time.sleep(2.5)  # the tested client does not read
        connection.settimeout(10)
        received = 0
        try:
            while part := connection.recv(65536):
                received += len(part)
        except (ConnectionError, ssl.SSLError):
            pass
        assert 0.9 <= time.monotonic() - begin < 5
        assert received < 8_000_000
