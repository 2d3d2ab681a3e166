"""A real gunicorn with the rendered gunicorn.conf.py: a response leaves in a single write, or not at all."""

import socket
from collections.abc import Iterator

import pytest
from lib.ansible_runs import render
from lib.cluster import eventually
from lib.rendered_gunicorn import Node

APP = '''
import os, signal


class Dies(bytes):
    """A body that kills the worker when gunicorn computes its length, after it has sent the headers."""

    def __len__(self):
        os.kill(os.getpid(), signal.SIGKILL)


def app(environ, start):
    path = environ["PATH_INFO"]
    length = {"/empty": 0, "/file": os.path.getsize(__file__)}.get(path, 5)
    start("200 OK", [] if path == "/parts" else [("Content-Length", str(length))])
    if path == "/file":
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    return {"/dies": [Dies(b"whole")], "/empty": [], "/parts": [b"wh", b"ole"]}.get(path, [b"whole"])
'''


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with an app that takes its response from the path."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "whole.py").write_text(APP)
    config = folder / "gunicorn.conf.py"
    config.write_text(render(folder, 1, app_metrics_port=0, app_workers=1).text("app1/gunicorn.conf.py"))
    node = Node(config, None, folder, app="whole:app", packages=str(folder))
    assert eventually(node.workers), node.log()
    yield node
    node.stop()


def request(node: Node, method: str, path: str) -> bytes:
    """Return all bytes that the node sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n".encode())
        try:
            return connection.makefile("rb").read()
        except ConnectionResetError:
            return b""


def test_a_worker_that_dies_during_a_response_has_sent_nothing(node: Node) -> None:
    """So nginx has forwarded nothing either, and retries another node."""
    assert request(node, "GET", "/dies") == b""


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/", b"whole"),
        ("HEAD", "/", b""),
        ("GET", "/empty", b""),
        ("GET", "/parts", b"2\r\nwh\r\n3\r\nole\r\n0\r\n\r\n"),
    ],
)
def test_responses_of_each_kind_are_sent(node: Node, method: str, path: str, body: bytes) -> None:
    header, _, rest = request(node, method, path).partition(b"\r\n\r\n")
    assert header.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest == body


def test_a_file_follows_its_headers(node: Node) -> None:
    """The kernel sends the file, bypassing the app."""
    header, _, rest = request(node, "GET", "/file").partition(b"\r\n\r\n")
    assert header.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest == APP.encode()
