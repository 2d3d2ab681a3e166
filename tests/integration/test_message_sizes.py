"""nginx in front of gunicorn, with the rendered files: both agree on the size of requests and responses."""

import json
from collections.abc import Iterator

import pytest
from lib.ansible_runs import render, tool
from lib.cluster import eventually
from lib.rendered_gunicorn import Node
from lib.rendered_nginx import Balancer, balancer

APP = """
def app(environ, start):
    size = int(environ.get("HTTP_X_COOKIE_BYTES", 0))
    start("200 OK", [("Set-Cookie", "large=" + "x" * size), ("X-Node", "app1")])
    return [b"from the app"]
"""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    tool("nginx", "nginx-light")
    folder = tmp_path_factory.mktemp("sizes")
    (folder / "shop.py").write_text(APP)
    cluster = render(folder, 1, app_workers=1, app_metrics_port=0)
    config = folder / "gunicorn.conf.py"
    config.write_text(cluster.text("app1/gunicorn.conf.py"))
    node = Node(config, None, folder, app="shop:app", packages=str(folder))
    try:
        assert eventually(lambda: "Booting worker" in node.log()), node.log()
        with balancer(folder, cluster, f"127.0.0.1:{node.port}") as lb:
            yield lb
    finally:
        node.stop()


def assert_answered(edge: Balancer, refusal: int, path: str = "/", **headers: str) -> int:
    """Assert that the app answers, or that the balancer refuses with its own page; return the status."""
    status, received, body, _seconds = edge.request(path=path, headers=headers)
    if status == 200:
        assert body == "from the app"
    else:
        assert status == refusal, body
        assert json.loads(body)["request_id"] == received["X-Request-ID"]
    return status


@pytest.mark.parametrize("size", [1000, 4075, 4076, 4094, 4095, 8100, 8170, 8175, 8176, 8177, 8190, 8191, 8192, 9000])
def test_a_long_address(edge: Balancer, size: int) -> None:
    """A request line may have 8 KiB in nginx, and 4,094 bytes in gunicorn by default."""
    status = assert_answered(edge, 414, path="/" + "x" * (size - 1))
    assert (status == 200) == (size <= 8177)


@pytest.mark.parametrize("size", [1000, 8000, 8170, 8180, 8181, 8190, 8191, 8192, 9000])
def test_a_long_header(edge: Balancer, size: int) -> None:
    status = assert_answered(edge, 431, **{"X-Long": "x" * size})
    assert (status == 200) == (size <= 8181)


@pytest.mark.parametrize("count", [90, 100, 101, 500])
def test_many_headers(edge: Balancer, count: int) -> None:
    """gunicorn refuses more than 100 by default."""
    assert assert_answered(edge, 431, **{f"X-{number}": "a" for number in range(count)}) == 200


@pytest.mark.parametrize("size", [3000, 3900, 4093, 12_000])
def test_large_headers_of_a_response(edge: Balancer, size: int) -> None:
    """Flask allows cookies of 4,093 bytes."""
    status, headers, body, _seconds = edge.request(headers={"X-Cookie-Bytes": str(size)})
    assert (status, body) == (200, "from the app")
    assert len(headers["Set-Cookie"]) == size + len("large=")
