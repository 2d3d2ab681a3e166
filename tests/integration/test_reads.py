"""What the balancer does when nodes are slow or mute: nginx itself, before nodes that count what they are sent."""

import json

import pytest
from lib.ansible_runs import render, tool
from lib.redis_server import free_port
from lib.rendered_nginx import Node, balancer

RETRY, SLOW, READ = 0.3, 0.6, 2  # seconds: asked again after, a slow page takes, waited for at most
NEVER = 60
AWKWARD = '^/odd "\\w+"; {x}\\\\$'  # what it matches: /odd "page"; {x}\
JSON, HTML = {"Accept": "application/json"}, {"Accept": "text/html"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    tool("nginx", "nginx-light")
    return render(
        tmp_path_factory.mktemp("cluster"),
        2,
        nginx_read_retry_timeout=f"{RETRY * 1000:.0f}ms",
        nginx_read_timeout=f"{READ}s",
        nginx_slow_paths=["^/reports/", AWKWARD],
        app_max_body_bytes=1000,
    )


@pytest.fixture
def before(tmp_path, cluster):
    """Run nginx before nodes."""
    return lambda *nodes, out=(): balancer(tmp_path, cluster, *nodes, out=out)


def nobody():
    """An address at which nobody listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_that_a_node_does_not_answer_is_asked_of_another(before, method):
    mute, well, too = Node(NEVER), Node(), Node()
    with before(mute, well, too) as lb:
        for number in range(9):
            status, _headers, body, seconds = lb.ask(method, f"/{number}")
            assert (status, body) == (200, "own words" if method == "GET" else "")
            assert seconds < READ
    assert len(mute.received) == 2  # then it is left out
    assert sorted(well.received + too.received) == [(method, f"/{number}") for number in range(9)]


def test_a_write_that_was_sent_is_never_sent_twice(before):
    mute, well = Node(NEVER), Node()
    with before(mute, well) as lb:
        answers = [lb.ask("POST", f"/{number}", body="x") for number in range(3)]
    lost = [(status, seconds >= READ) for status, _headers, _body, seconds in answers if status != 200]
    assert lost == [(503, True)] * len(mute.received)
    assert mute.received
    assert sorted(mute.received + well.received) == [("POST", f"/{number}") for number in range(3)]


@pytest.mark.parametrize("drained", [0, 2])
def test_a_node_that_is_in_alone_gets_its_time_and_is_asked_once(before, drained):
    slow = Node(SLOW)
    others = [Node() for _ in range(drained)]
    with before(slow, *others, out=range(1, 1 + drained)) as lb:
        assert [lb.ask()[0] for _ in range(3)] == [200] * 3
    assert slow.received == [("GET", "/")] * 3
    assert [node.received for node in others] == [[]] * drained


@pytest.mark.parametrize("path", ["/reports/7?full=1", "/odd%20%22page%22;%20%7Bx%7D%5C"])
def test_slow_paths_get_their_time_and_are_asked_once(before, path):
    nodes = [Node(SLOW), Node(SLOW)]
    with before(*nodes) as lb:
        assert lb.ask(path=path)[0] == 200
    assert sum((node.received for node in nodes), []) == [("GET", path)]


def test_a_slow_page_that_is_not_listed_is_late_and_costs_other_pages_nothing(before):
    """Two nodes are asked in vain, the next one gets its time; when all count as failed, all are asked."""
    nodes = [Node(SLOW), Node(SLOW), Node(SLOW)]
    with before(*nodes) as lb:
        for _ in range(6):
            status, _headers, _body, seconds = lb.ask()
            assert status == 200
            assert 2 * RETRY + SLOW <= seconds < READ
        for node in nodes:
            node.seconds = 0
        assert [lb.ask()[0] for _ in range(10)] == [200] * 10
    assert sum(len(node.received) for node in nodes) == 6 * 3 + 10


@pytest.mark.parametrize("nodes", [[nobody, nobody], [lambda: Node(NEVER), lambda: Node(NEVER)]], ids=["away", "mute"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_that_nobody_answers_is_said_by_the_balancer(before, tmp_path, nodes, method):
    """503 with Retry-After and the request's id, as page or JSON; the log has what the visitor asked."""
    with before(*(node() for node in nodes)) as lb:
        answers = [lb.ask(method, "/shop?card=1", accept) for accept in (JSON, HTML)]
    # nginx is gone, so that it has written all of its log; its processes do in any order
    lines = map(json.loads, (tmp_path / "access.log").read_text().splitlines())
    log = {line["request_id"]: [line[key] for key in ("method", "uri", "status")] for line in lines}
    assert len(log) == 2
    for (status, headers, body, _seconds), kind in zip(answers, ("application/json", "text/html"), strict=True):
        assert (status, headers["Content-Type"], headers["Retry-After"]) == (503, kind, "2")
        (request_id,) = headers.get_all("X-Request-ID")
        assert request_id in body
        assert "No app node answers" in body
        assert log[request_id] == [method, "/shop", "503"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_too_large_is_refused(before, method, chunked):
    nodes = [Node(), Node()]
    with before(*nodes) as lb:
        body = [b"x" * 2000] if chunked else b"x" * 2000
        status, headers, body, _seconds = lb.ask(method, headers=JSON, body=body, encode_chunked=chunked)
        assert (status, headers["Content-Type"]) == (413, "application/json")
        assert "larger than 1000 bytes" in body
        assert headers["X-Request-ID"] in body
    assert [node.received for node in nodes] == [[], []]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_a_node_answers_passes_as_it_is(before, method):
    nodes = [Node(status=503), Node(status=503)]
    with before(*nodes) as lb:
        status, headers, body, _seconds = lb.ask(method)
        assert (status, body, headers["Retry-After"]) == (503, "own words", None)
    assert sum((node.received for node in nodes), []) == [(method, "/")]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_maintenance_turns_all_away(before, method):
    nodes = [Node(), Node()]
    with before(*nodes) as lb:
        status, headers, body, _seconds = lb.ask(method, headers=HTML | {"Cookie": "maintenance=wrong"})
        assert (status, headers["Retry-After"]) == (503, "60")
        assert "We are working on this site" in body
        assert lb.ask(method)[0] == 200
    assert sum((node.received for node in nodes), []) == [(method, "/")]
