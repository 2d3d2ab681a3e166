"""nginx in front of app nodes that are slow, mute or away: retries, timeouts, errors of the balancer."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from lib.ansible_runs import Cluster, render, tool
from lib.redis_server import free_port
from lib.rendered_nginx import Balancer, Node, balancer

RETRY, SLOW, READ = 0.3, 0.6, 2  # seconds until a read is retried, until a slow page responds, until nginx gives up
NEVER = 60
AWKWARD = '^/odd "\\w+"; {x}\\\\$'  # matches: /odd "page"; {x}\
JSON, HTML = {"Accept": "application/json"}, {"Accept": "text/html"}
Run = Callable[..., AbstractContextManager[Balancer]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    tool("nginx", "nginx-light")
    return render(
        tmp_path_factory.mktemp("cluster"),
        2,
        limit="nginx",
        nginx_read_retry_timeout=f"{RETRY * 1000:.0f}ms",
        nginx_read_timeout=f"{READ}s",
        nginx_slow_paths=["^/reports/", AWKWARD],
        app_max_body_bytes=1000,
    )


@pytest.fixture
def run(tmp_path: Path, cluster: Cluster) -> Run:
    """Run nginx in front of nodes."""
    return lambda *nodes, drained=(): balancer(tmp_path, cluster, *nodes, drained=drained)


def unreachable() -> str:
    """Return an address at which no process listens."""
    return f"127.0.0.1:{free_port()}"


def mute() -> Node:
    return Node(NEVER)


def received(nodes: list[Node]) -> list[tuple[str, str | bytes]]:
    """Return the requests that the nodes have received."""
    return [request for node in nodes for request in node.received]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_without_an_answer_is_retried_on_another_node(run: Run, method: str) -> None:
    silent, others = mute(), [Node(), Node()]
    with run(silent, *others) as lb:
        for number in range(9):
            status, _headers, body, seconds = lb.request(method, f"/{number}")
            assert (status, body) == (200, "from the node" if method == "GET" else "")
            assert seconds < READ
    assert len(silent.received) == 2  # then nginx marks it as failed
    assert sorted(received(others)) == [(method, f"/{number}") for number in range(9)]


def test_a_write_that_was_sent_is_never_repeated(run: Run) -> None:
    nodes = [mute(), Node()]
    with run(*nodes) as lb:
        responses = [lb.request("POST", f"/{number}", body="x") for number in range(3)]
    lost = [(status, seconds >= READ) for status, _headers, _body, seconds in responses if status != 200]
    assert lost == [(503, True)] * len(nodes[0].received)
    assert nodes[0].received
    assert sorted(received(nodes)) == [("POST", f"/{number}") for number in range(3)]


@pytest.mark.parametrize("count", [0, 2])
def test_a_single_active_node_gets_the_full_timeout_and_no_retry(run: Run, count: int) -> None:
    slow, drained = Node(SLOW), [Node() for _ in range(count)]
    with run(slow, *drained, drained=range(1, 1 + count)) as lb:
        assert [lb.request()[0] for _ in range(3)] == [200] * 3
    assert slow.received == [("GET", "/")] * 3
    assert received(drained) == []


@pytest.mark.parametrize("path", ["/reports/7?full=1", "/odd%20%22page%22;%20%7Bx%7D%5C"])
def test_slow_paths_get_the_full_timeout_and_no_retry(run: Run, path: str) -> None:
    nodes = [Node(SLOW), Node(SLOW)]
    with run(*nodes) as lb:
        assert lb.request(path=path)[0] == 200
    assert received(nodes) == [("GET", path)]


def test_a_slow_page_that_is_not_listed_is_late_and_does_not_affect_other_pages(run: Run) -> None:
    """The third try gets the full timeout. When all nodes are marked as failed, all are used."""
    nodes = [Node(SLOW), Node(SLOW), Node(SLOW)]
    with run(*nodes) as lb:
        for _ in range(6):
            status, _headers, _body, seconds = lb.request()
            assert status == 200
            assert 2 * RETRY + SLOW <= seconds < READ
        for node in nodes:
            node.seconds = 0
        assert [lb.request()[0] for _ in range(10)] == [200] * 10
    assert len(received(nodes)) == 6 * 3 + 10


@pytest.mark.parametrize("make", [unreachable, mute])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_an_answering_node_the_balancer_responds(
    run: Run, tmp_path: Path, make: Callable[[], Node | str], method: str
) -> None:
    """503 with Retry-After and the request id, as HTML or JSON; the log has the original request."""
    with run(make(), make()) as lb:
        responses = [lb.request(method, "/shop?card=1", accept) for accept in (JSON, HTML)]
    # nginx has ended, so its log is complete; the order of the lines depends on its workers
    lines = map(json.loads, (tmp_path / "access.log").read_text().splitlines())
    log = {line["request_id"]: [line[key] for key in ("method", "uri", "status")] for line in lines}
    assert len(log) == 2
    for (status, headers, body, _seconds), kind in zip(responses, ("application/json", "text/html"), strict=True):
        assert (status, headers["Content-Type"], headers["Retry-After"]) == (503, kind, "2")
        (request_id,) = headers.get_all("X-Request-ID", [])
        assert request_id in body
        assert "No app node answers" in body
        assert log[request_id] == [method, "/shop", "503"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_rejected(run: Run, method: str, chunked: bool) -> None:
    nodes = [Node(), Node()]
    with run(*nodes) as lb:
        large = [b"x" * 2000] if chunked else b"x" * 2000
        status, headers, body, _seconds = lb.request(method, headers=JSON, body=large, encode_chunked=chunked)
        assert (status, headers["Content-Type"]) == (413, "application/json")
        assert "larger than 1000 bytes" in body
        assert headers["X-Request-ID"] in body
    assert received(nodes) == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_errors_of_a_node_are_forwarded_unchanged(run: Run, method: str) -> None:
    nodes = [Node(status=503), Node(status=503)]
    with run(*nodes) as lb:
        status, headers, body, _seconds = lb.request(method)
        assert (status, body, headers["Retry-After"]) == (503, "from the node", None)
    assert received(nodes) == [(method, "/")]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_maintenance_mode_stops_all_requests_without_the_token(run: Run, method: str) -> None:
    nodes = [Node(), Node()]
    with run(*nodes) as lb:
        wrong = HTML | {"Cookie": "maintenance_bypass=wrong"}
        status, headers, body, _seconds = lb.request(method, headers=wrong)
        assert (status, headers["Retry-After"]) == (503, "60")
        assert "We are working on this site" in body
        assert lb.request(method)[0] == 200
    assert received(nodes) == [(method, "/")]
