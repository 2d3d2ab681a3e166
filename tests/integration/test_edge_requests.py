"""Request smuggling and forged headers: raw bytes to a real nginx, and the requests that its node receives."""

import json
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from email.message import Message
from typing import Any

import pytest
import yaml
from lib.ansible_runs import ROOT, Cluster, render, tool
from lib.rendered_nginx import Balancer, Node, balancer

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
Head = tuple[str, Message]
Pairs = list[tuple[bytes, bytes]]
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d+) ")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    tool("nginx", "nginx-light")
    return render(tmp_path_factory.mktemp("cluster"), 1, limit="nginx", nginx_trusted_proxies=["127.0.0.9"])


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Balancer]:
    """nginx in front of a node."""
    with balancer(tmp_path_factory.mktemp("edge"), cluster, Node()) as lb:
        yield lb


@pytest.fixture
def heads(edge: Balancer) -> list[Head]:
    """The request lines and headers that the node receives in this test."""
    edge.node.received.clear()
    edge.node.heads.clear()
    return edge.node.heads


def request(
    edge: Balancer,
    line: str = "GET /page HTTP/1.1",
    headers: bytes = b"",
    body: bytes = b"",
    host: bytes = b"Host: localhost\r\n",
) -> bytes:
    """Return the bytes of a request that bypasses maintenance mode."""
    cookie = f"Cookie: {edge.bypass['Cookie']}\r\n".encode()
    return line.encode() + b"\r\n" + host + cookie + headers + b"\r\n" + body


def statuses(received: bytes) -> list[int]:
    """Return the status of each response."""
    return [int(status) for status in STATUS_LINE.findall(received)]


# By name: headers and body of a POST that a server may read as two requests.
SHAPES = {
    "length and chunks": (b"Content-Length: 48\r\nTransfer-Encoding: chunked\r\n", LAST_CHUNK + SMUGGLED),
    "chunks and length": (b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", LAST_CHUNK + SMUGGLED),
    "two lengths": (b"Content-Length: 0\r\nContent-Length: 43\r\n", SMUGGLED),
    "the same length twice": (b"Content-Length: 0\r\nContent-Length: 0\r\n", SMUGGLED),
    "a list of lengths": (b"Content-Length: 0, 43\r\n", SMUGGLED),
    "a signed length": (b"Content-Length: +43\r\n", SMUGGLED),
    "a negative length": (b"Content-Length: -1\r\n", SMUGGLED),
    "a hexadecimal length": (b"Content-Length: 0x2b\r\n", SMUGGLED),
    "a blank after the length's name": (b"Content-Length : 43\r\n", SMUGGLED),
    "another encoding": (b"Transfer-Encoding: xchunked\r\n", LAST_CHUNK + SMUGGLED),
    "identity encoding": (b"Transfer-Encoding: identity\r\n", SMUGGLED),
    "two encodings": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", LAST_CHUNK + SMUGGLED),
    "a list of encodings": (b"Transfer-Encoding: identity, chunked\r\n", LAST_CHUNK + SMUGGLED),
    "a tabulator before the encoding": (b"Transfer-Encoding:\x0bchunked\r\n", LAST_CHUNK + SMUGGLED),
    "a blank after the encoding's name": (b"Transfer-Encoding : chunked\r\n", LAST_CHUNK + SMUGGLED),
    "a folded encoding": (b"Transfer-Encoding:\r\n chunked\r\n", LAST_CHUNK + SMUGGLED),
    "a chunk with 0x": (b"Transfer-Encoding: chunked\r\n", b"0x0\r\n\r\n" + SMUGGLED),
    "a negative chunk": (b"Transfer-Encoding: chunked\r\n", b"-1\r\n\r\n" + SMUGGLED),
    "a chunk too large for a number": (b"Transfer-Encoding: chunked\r\n", b"10000000000000000\r\n\r\n" + SMUGGLED),
    "a line that ends within a chunk's extension": (
        b"Transfer-Encoding: chunked\r\n",
        b"2b;x=\n\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
    ),
    "a folded header": (b"X-A: b\r\n c: d\r\n", b""),
    "NUL in a value": (b"X-A: b\0c\r\n", b""),
    "NUL in a name": (b"X\0A: b\r\n", b""),
    "a lone CR": (b"X-A: b\rTransfer-Encoding: chunked\r\n", LAST_CHUNK + SMUGGLED),
    "another host": (b"Host: evil.example\r\n", b""),
    "the same host twice": (b"Host: localhost\r\n", b""),
}


@pytest.mark.parametrize("name", SHAPES)
def test_an_ambiguous_request_is_rejected(edge: Balancer, heads: list[Head], name: str) -> None:
    headers, body = SHAPES[name]
    response = edge.send(request(edge, "POST /page HTTP/1.1", headers, body))
    assert statuses(response) in ([400], [501]), response
    assert heads == []
    assert edge.node.received == []


@pytest.mark.parametrize(
    ("line", "host", "status"),
    [
        ("GET /page", b"", None),  # HTTP/0.9: a response has no status
        ("GET http://localhost/page", b"", None),
        ("GET /page HTTP/0.9", b"Host: localhost\r\n", 400),
        ("GET /page HTTP/2.0", b"Host: localhost\r\n", 505),
        ("GET /page HTTP/1.1", b"", 400),
        ("GET /page HTTP/1.0", b"", 421),
        ("GET http://localhost/page HTTP/1.1", b"Host: evil.example\r\n", 400),
        ("GET http://evil.example/page HTTP/1.1", b"Host: localhost\r\n", 421),
        ("GET http://localhost/page HTTP/1.0", b"", 400),
        ("GET http://evil@localhost/page HTTP/1.1", b"Host: localhost\r\n", 400),
        ("GET /page HTTP/1.1", b"Host: localhost:80@evil.example\r\n", 400),
        ("GET /page HTTP/1.1", b"Host: localhost/evil\r\n", 400),
        ("GET /page HTTP/1.1", b"Host: localhost, evil.example\r\n", 400),
        ("GET /page HTTP/1.1", b"Host: evil@localhost\r\n", 421),
        ("GET /page /smuggled HTTP/1.1", b"Host: localhost\r\n", 400),
        ("TRACE /page HTTP/1.1", b"Host: localhost\r\n", 405),
        ("CONNECT /page HTTP/1.1", b"Host: localhost\r\n", 405),
        ("CONNECT localhost:443 HTTP/1.1", b"Host: localhost\r\n", 400),
        ("get /page HTTP/1.1", b"Host: localhost\r\n", 400),
    ],
)
def test_an_ambiguous_host_is_rejected(
    edge: Balancer, heads: list[Head], line: str, host: bytes, status: int | None
) -> None:
    response = edge.send(request(edge, line, host=host) if "HTTP/" in line else line.encode() + b"\r\n")
    assert statuses(response) == ([status] if status else []), response
    assert b'"error"' in response
    assert heads == []


@pytest.mark.parametrize(
    ("line", "headers", "body"),
    [
        ("POST /page HTTP/1.1", b"Transfer_Encoding: chunked\r\nContent-Length: 43\r\n", SMUGGLED),
        ("POST /page HTTP/1.1", b"Transfer-Encoding: chunked\r\n", b"2b;x=y\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
        ("GET /page HTTP/1.1", b"Content-Length: 43\r\n", SMUGGLED),
        ("GET /page HTTP/1.1", b"X-A: b\nX-B: c\n", b""),
        (
            "GET /page HTTP/1.1",
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
            b"",
        ),
    ],
    ids=["underscore", "extension", "GET", "bare LF", "h2c"],
)
def test_a_forwarded_request_is_a_single_request(
    edge: Balancer, heads: list[Head], line: str, headers: bytes, body: bytes
) -> None:
    """nginx sends a length, and drops hop-by-hop headers and headers with an invalid name."""
    response = edge.send(request(edge, line, headers, body))
    ((requestline, seen),) = heads
    assert statuses(response) == [200], response
    assert requestline == line
    assert seen["Content-Length"] == (str(len(SMUGGLED)) if body else None)
    for name in ("Transfer-Encoding", "Transfer_Encoding", "Upgrade", "Connection"):
        assert seen[name] is None


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_pipelined_requests_stay_separate(edge: Balancer, heads: list[Head], ends: bytes) -> None:
    """Each gets its own response, in order."""
    two = request(edge, "POST /first HTTP/1.1", b"Transfer-Encoding: chunked\r\n", b"0" + ends * 2) + request(edge)
    assert statuses(edge.send(two)) == [200, 200]
    assert [line for line, _headers in heads] == ["POST /first HTTP/1.1", "GET /page HTTP/1.1"]


@pytest.mark.parametrize("path", ["/a%00b", "/..", "/../page", "/%2e%2e/page", "/a%zz", "/%0"])
def test_invalid_paths_are_rejected(edge: Balancer, heads: list[Head], path: str) -> None:
    assert statuses(edge.send(request(edge, f"GET {path} HTTP/1.1"))) == [400]
    assert heads == []


@pytest.mark.parametrize(
    "path",
    [
        "/a%2Fb",
        "/./page",
        "/a/../page",
        "/x/..%2fasked",
        "//page",
        "/a//b",
        "/a;b=c/d",
        "/a%0d%0aX:%20y",
        "/%c0%ae",
        "/a?b=/../c",
        "/a%23b",
        "/a\\b",
        "/%2F%2Fevil.example",
        "/a%3Fb",
        "/%ff",
        "/a?%00",
    ],
)
def test_other_paths_are_forwarded_unchanged(edge: Balancer, heads: list[Head], path: str) -> None:
    assert statuses(edge.send(request(edge, f"GET {path} HTTP/1.1"))) == [200]
    ((line, headers),) = heads
    assert line == f"GET {path} HTTP/1.1"
    assert headers["X"] is None


# By source: headers from which software behind a proxy derives the client's address, the host, the scheme or the path.
FORGED = {
    "RFC 7239, and the usual headers before it": "Forwarded X-Forwarded Forwarded-For X-Real-IP X-Client-IP Client-IP",
    "werkzeug's ProxyFix": "X-Forwarded-For X-Forwarded-Proto X-Forwarded-Host X-Forwarded-Port X-Forwarded-Prefix",
    "gunicorn": "X-Forwarded-Protocol X-Forwarded-Ssl X-Forwarded-Path X-Script-Name",
    "other servers": "X-Forwarded-By X-Forwarded-Scheme X-Forwarded-Server X-Host X-Original-Host X-Scheme"
    " X-URL-Scheme",
    "python-ipware": "X-Cluster-Client-IP CF-Connecting-IP True-Client-IP Fastly-Client-IP X-Appengine-User-IP",
    "request-ip": "CF-Pseudo-IPv4",
    "Spring and WebLogic": "Proxy-Client-IP WL-Proxy-Client-IP",
    "ingress controllers": "X-Original-Forwarded-For X-Envoy-External-Address X-Original-URI",
    "content delivery networks": "CF-Connecting-IPv6 CloudFront-Viewer-Address DO-Connecting-IP Fly-Client-IP"
    " X-Azure-ClientIP X-Azure-SocketIP X-NF-Client-Connection-IP X-Vercel-Forwarded-For X-Vercel-IP"
    " X-Appengine-Remote-Addr",
    "code of applications": "X-ClientIP X-Forwarded-Client-IP X-Originating-IP X-ProxyUser-IP X-Remote-Addr X-Remote-IP"
    " X-True-IP",
    "IIS and Symfony": "X-Original-URL X-Rewrite-URL",
    "method overrides": "X-HTTP-Method X-HTTP-Method-Override X-Method-Override",
    "CVE-2016-5385": "Proxy",
    "names that WSGI can't distinguish from these": "X_Forwarded_For X_Real_IP X_Forwarded-Host",
    "the balancer": "X-Request-ID",
}
NAMES = " ".join(FORGED.values()).split()


def test_every_dropped_header_is_tested() -> None:
    dropped = yaml.safe_load((ROOT / "roles/nginx/vars/main.yml").read_text())["__nginx_dropped_headers"]
    assert dropped == sorted(dropped, key=str.lower)
    assert set(dropped) <= set(NAMES)


def test_forged_headers_are_dropped(edge: Balancer, heads: list[Head]) -> None:
    edge.request(headers={name: "forged" for name in NAMES} | {"X-Fine": "passes"})
    ((_line, headers),) = heads
    assert headers["X-Fine"] == "passes"
    assert "forged" not in str(headers)
    assert headers.get_all("X-Forwarded-For") == ["127.0.0.1"]
    assert headers.get_all("X-Forwarded-Proto") == ["https"]
    assert headers.get_all("X-Forwarded-Host") == headers.get_all("Host") == [f"127.0.0.1:{edge.port}"]


@pytest.mark.parametrize(("source", "client"), [("127.0.0.9", "192.0.2.7"), ("127.0.0.8", "127.0.0.8")])
def test_the_client_address_of_a_header_is_used_from_trusted_proxies_only(
    edge: Balancer, heads: list[Head], source: str, client: str
) -> None:
    """The last untrusted address in the header is the client."""
    with edge.connect(source=source) as connection:
        header = b"X-Forwarded-For: 6.6.6.6, 192.0.2.7, 127.0.0.9\r\n"
        connection.sendall(request(edge, headers=header))
        connection.recv(65536)
    assert [headers["X-Forwarded-For"] for _line, headers in heads] == [client]


@pytest.mark.parametrize(
    ("source", "proto", "status"),
    [
        ("127.0.0.9", "https", 200),
        ("127.0.0.9", "http", 308),
        ("127.0.0.9", "", 308),
        ("127.0.0.8", "https", 308),
    ],
)
def test_a_trusted_proxy_may_end_the_clients_tls(
    edge: Balancer, heads: list[Head], source: str, proto: str, status: int
) -> None:
    """It connects by HTTP; a redirect to HTTPS would come back to it without end."""
    header = f"X-Forwarded-Proto: {proto}\r\nX-Forwarded-For: 192.0.2.7\r\n".encode()
    with edge.connect(plain=True, source=source) as connection:
        connection.sendall(request(edge, headers=header))
        response = connection.recv(65536)
    assert statuses(response) == [status]
    forwarded = [(headers["X-Forwarded-Proto"], headers["X-Forwarded-For"]) for _line, headers in heads]
    assert forwarded == ([("https", "192.0.2.7")] if status == 200 else [])
    assert (b"Strict-Transport-Security" in response) == (status == 200)


def test_a_scheme_is_not_taken_from_a_client_or_downgraded_by_a_proxy(edge: Balancer, heads: list[Head]) -> None:
    for source in ("127.0.0.8", "127.0.0.9"):
        with edge.connect(source=source) as connection:
            connection.sendall(request(edge, headers=b"X-Forwarded-Proto: http\r\n"))
            connection.recv(65536)
    assert [headers["X-Forwarded-Proto"] for _line, headers in heads] == ["https", "https"]


class H2:
    """A minimal HTTP/2 client that sends frames which no library would send."""

    PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    STATUS = {0x88: 200, 0x8C: 400, 0x8D: 404, 0x8E: 500}  # of the static table in RFC 7541

    def __init__(self, edge: Balancer) -> None:
        tls = edge.trust()
        tls.set_alpn_protocols(["h2"])
        self.connection = edge.connect(tls=tls)
        assert self.connection.selected_alpn_protocol() == "h2"
        self.connection.sendall(self.PREFACE + self.frame(4))

    @staticmethod
    def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    def request(self, headers: Pairs, body: bytes = b"") -> int | None:
        """Send a request; return its status, or None if nginx resets the stream or the connection."""
        return self.exchange(headers, body)[0]

    def exchange(self, headers: Pairs, body: bytes = b"") -> tuple[int | None, bytes]:
        """Send a request; return its status, as request() does, and the body of the response."""
        block = b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in headers)
        self.connection.sendall(self.frame(1, 4 if body else 5, 1, block))
        frames = [body[start : start + 16_384] for start in range(0, len(body), 16_384)]  # the default maximum
        with suppress(ConnectionError):  # nginx may refuse the request by its headers
            for number, part in enumerate(frames, 1):
                self.connection.sendall(self.frame(0, number == len(frames), 1, part))
        status, content = None, b""
        with self.connection, self.connection.makefile("rb") as received:
            while head := received.read(9):
                payload = received.read(int.from_bytes(head[:3], "big"))
                if head[3] == 0:
                    content += payload
                elif head[3] == 1:
                    status = self.STATUS.get(payload[0]) or int(payload[2:5])
                ends = head[3] in (0, 1) and head[4] & 1  # END_STREAM
                if ends or head[3] in (3, 7):  # RST_STREAM, GOAWAY
                    break
        return status, content


def h2_request(
    edge: Balancer,
    *more: tuple[bytes, bytes],
    path: bytes = b"/page",
    method: bytes = b"GET",
    authority: bytes = b"localhost",
) -> Pairs:
    """Return the headers of a request that bypasses maintenance mode."""
    pseudo = {b":method": method, b":scheme": b"https", b":path": path, b":authority": authority}
    return [item for item in pseudo.items() if item[1]] + [(b"cookie", edge.bypass["Cookie"].encode()), *more]


def test_http_2_is_supported(edge: Balancer, heads: list[Head]) -> None:
    assert H2(edge).request(h2_request(edge, (b"x-fine", b"passes"))) == 200
    ((line, headers),) = heads
    assert (line, headers["Host"], headers["X-Fine"]) == ("GET /page HTTP/1.1", "localhost", "passes")


BODY = b"x" * 70_000  # more than nginx_max_body_bytes


@pytest.mark.parametrize(
    ("status", "more", "options", "body"),
    [
        (413, [(b"content-length", b"70000")], {"method": b"POST"}, BODY),
        (413, [], {"method": b"POST"}, BODY),
        (400, [], {"path": b"/%00"}, b""),
        (404, [], {"path": b"/.balancer/error.json"}, b""),
        (405, [], {"method": b"TRACE"}, b""),
        (421, [], {"authority": b"evil.example"}, b""),
    ],
    ids=["too large", "too large without length", "malformed", "internal page", "method", "host"],
)
def test_errors_over_http_2_have_the_page_of_the_balancer(
    edge: Balancer, status: int, more: Pairs, options: dict[str, Any], body: bytes
) -> None:
    seen, page = H2(edge).exchange(h2_request(edge, *more, **options), body)
    assert seen == status
    assert json.loads(page).keys() == {"error", "request_id"}


INJECTED = b"x\r\nTransfer-Encoding: chunked\r\n\r\n" + SMUGGLED


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ([(b"x-a", INJECTED)], {}),
        ([(b"x-a", b"x\0y")], {}),
        ([(b"x-a: b\r\nx-b", b"x")], {}),
        ([(b"X-Upper", b"x")], {}),
        ([(b"transfer-encoding", b"chunked"), (b"content-length", b"5")], {"method": b"POST"}),
        ([(b"content-length", b"0"), (b"content-length", b"48")], {"method": b"POST"}),
        ([(b"host", b"evil.example")], {}),
        ([(b":path", b"/smuggled")], {}),
        ([], {"path": b"/page HTTP/1.1\r\nHost: evil\r\n\r\nGET /smuggled"}),
        ([], {"path": b"page"}),
        ([], {"method": b"GET /smuggled HTTP/1.1\r\n\r\nGET"}),
        ([], {"authority": b"localhost\r\nX-A: b"}),
        ([], {"authority": b"evil.example"}),
        ([], {"authority": b""}),
    ],
)
def test_smuggling_by_http_2_is_rejected(
    edge: Balancer, heads: list[Head], more: Pairs, options: dict[str, Any]
) -> None:
    status = H2(edge).request(
        h2_request(edge, *more, **options), LAST_CHUNK + SMUGGLED if options.get("method") else b""
    )
    assert status in (None, 400, 421, 501)
    assert heads == []
    assert edge.node.received == []


@pytest.mark.parametrize("length", [b"0", b"5", b"500"])
def test_a_length_that_differs_from_the_http_2_body_is_rejected(
    edge: Balancer, heads: list[Head], length: bytes
) -> None:
    headers = h2_request(edge, (b"content-length", length), method=b"POST")
    assert H2(edge).request(headers, SMUGGLED) in (None, 400)
    assert heads == []
