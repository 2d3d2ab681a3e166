"""Requests that are made to mislead: raw bytes to a real nginx, and what the node behind it is told."""

import re
import struct

import pytest
from lib.ansible_runs import render, tool
from lib.rendered_nginx import Node, balancer

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d+) ")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    tool("nginx", "nginx-light")
    return render(tmp_path_factory.mktemp("cluster"), 1, nginx_trusted_proxies=["127.0.0.9"])


@pytest.fixture(scope="module")
def edge(tmp_path_factory, cluster):
    """An nginx before one node."""
    node = Node()
    with balancer(tmp_path_factory.mktemp("edge"), cluster, node) as lb:
        lb.node = node
        yield lb


@pytest.fixture
def asked(edge):
    """What the node is asked from now on."""
    edge.node.received.clear()
    edge.node.heads.clear()
    return edge.node.heads


def request(edge, line="GET /asked HTTP/1.1", headers=b"", body=b"", host=b"Host: localhost\r\n"):
    """The bytes of a request that maintenance lets pass."""
    cookie = f"Cookie: {edge.let_in['Cookie']}\r\n".encode()
    return line.encode() + b"\r\n" + host + cookie + headers + b"\r\n" + body


def statuses(answer):
    return [int(status) for status in STATUS_LINE.findall(answer)]


# By name: headers and body of a POST in which somebody may see a second request.
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
    "no encoding": (b"Transfer-Encoding: identity\r\n", SMUGGLED),
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
def test_what_could_be_two_requests_is_refused(edge, asked, name):
    headers, body = SHAPES[name]
    answer = edge.send(request(edge, "POST /asked HTTP/1.1", headers, body))
    assert statuses(answer) in ([400], [501]), answer
    assert asked == []
    assert edge.node.received == []


@pytest.mark.parametrize(
    ("line", "host", "status"),
    [
        ("GET /asked", b"", None),  # HTTP/0.9: an answer has no status there
        ("GET http://localhost/asked", b"", None),
        ("GET /asked HTTP/0.9", b"Host: localhost\r\n", 400),
        ("GET /asked HTTP/2.0", b"Host: localhost\r\n", 505),
        ("GET /asked HTTP/1.1", b"", 400),
        ("GET /asked HTTP/1.0", b"", 421),
        ("GET http://localhost/asked HTTP/1.1", b"Host: evil.example\r\n", 400),
        ("GET http://evil.example/asked HTTP/1.1", b"Host: localhost\r\n", 421),
        ("GET http://localhost/asked HTTP/1.0", b"", 400),
        ("GET http://evil@localhost/asked HTTP/1.1", b"Host: localhost\r\n", 400),
        ("GET /asked HTTP/1.1", b"Host: localhost:80@evil.example\r\n", 400),
        ("GET /asked HTTP/1.1", b"Host: localhost/evil\r\n", 400),
        ("GET /asked HTTP/1.1", b"Host: localhost, evil.example\r\n", 400),
        ("GET /asked HTTP/1.1", b"Host: evil@localhost\r\n", 421),
        ("GET /asked /smuggled HTTP/1.1", b"Host: localhost\r\n", 400),
        ("TRACE /asked HTTP/1.1", b"Host: localhost\r\n", 405),
        ("CONNECT /asked HTTP/1.1", b"Host: localhost\r\n", 405),
        ("CONNECT localhost:443 HTTP/1.1", b"Host: localhost\r\n", 400),
        ("get /asked HTTP/1.1", b"Host: localhost\r\n", 400),
    ],
)
def test_what_leaves_open_who_is_meant_is_refused(edge, asked, line, host, status):
    answer = edge.send(request(edge, line, host=host) if "HTTP/" in line else line.encode() + b"\r\n")
    assert statuses(answer) == ([status] if status else []), answer
    assert b'"error"' in answer
    assert asked == []


@pytest.mark.parametrize(
    ("line", "headers", "body"),
    [
        ("POST /asked HTTP/1.1", b"Transfer_Encoding: chunked\r\nContent-Length: 43\r\n", SMUGGLED),
        ("POST /asked HTTP/1.1", b"Transfer-Encoding: chunked\r\n", b"2b;x=y\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
        ("GET /asked HTTP/1.1", b"Content-Length: 43\r\n", SMUGGLED),
        ("GET /asked HTTP/1.1", b"X-A: b\nX-B: c\n", b""),
        (
            "GET /asked HTTP/1.1",
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
            b"",
        ),
    ],
    ids=["underscore", "extension", "GET", "bare LF", "h2c"],
)
def test_what_is_passed_is_one_request(edge, asked, line, headers, body):
    """nginx writes it anew: with a length, without what it didn't understand or what was meant for it."""
    answer = edge.send(request(edge, line, headers, body))
    ((requestline, told),) = asked
    assert statuses(answer) == [200], answer
    assert requestline == line
    assert told["Content-Length"] == (str(len(SMUGGLED)) if body else None)
    for name in ("Transfer-Encoding", "Transfer_Encoding", "Upgrade", "Connection"):
        assert told[name] is None


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_two_requests_that_were_sent_are_two(edge, asked, ends):
    """Each gets its answer, in order: the node was asked as often as the client was answered."""
    two = request(edge, "POST /first HTTP/1.1", b"Transfer-Encoding: chunked\r\n", b"0" + ends * 2) + request(edge)
    assert statuses(edge.send(two)) == [200, 200]
    assert [line for line, _headers in asked] == ["POST /first HTTP/1.1", "GET /asked HTTP/1.1"]


@pytest.mark.parametrize("path", ["/a%00b", "/..", "/../asked", "/%2e%2e/asked", "/a%zz", "/%0"])
def test_paths_that_lead_nowhere_are_refused(edge, asked, path):
    assert statuses(edge.send(request(edge, f"GET {path} HTTP/1.1"))) == [400]
    assert asked == []


@pytest.mark.parametrize(
    "path",
    [
        "/a%2Fb",
        "/./asked",
        "/a/../asked",
        "/x/..%2fasked",
        "//asked",
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
def test_other_paths_are_passed_as_they_were_asked(edge, asked, path):
    assert statuses(edge.send(request(edge, f"GET {path} HTTP/1.1"))) == [200]
    ((line, headers),) = asked
    assert line == f"GET {path} HTTP/1.1"
    assert headers["X"] is None


KINDS = ["For", "Host", "Proto", "Prefix", "Port", "Server", "Scheme", "Ssl", "By", "Protocol"]
CLAIMS = [
    *(f"X-Forwarded-{kind}" for kind in KINDS),
    *("Forwarded", "X-Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP", "X-Cluster-Client-IP", "X-Request-ID"),
    *("X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "Proxy", "X_Forwarded_For", "X_Real_IP"),
]


def test_what_a_client_claims_about_itself_is_dropped(edge, asked):
    edge.ask(headers={name: "forged" for name in CLAIMS} | {"X-Fine": "passes"})
    ((_line, headers),) = asked
    assert headers["X-Fine"] == "passes"
    assert "forged" not in str(headers)
    assert headers.get_all("X-Forwarded-For") == ["127.0.0.1"]
    assert headers.get_all("X-Forwarded-Proto") == ["https"]
    assert headers.get_all("X-Forwarded-Host") == headers.get_all("Host") == [f"127.0.0.1:{edge.port}"]


@pytest.mark.parametrize(("source", "told"), [("127.0.0.9", "192.0.2.7"), ("127.0.0.8", "127.0.0.8")])
def test_only_a_trusted_balancer_may_say_who_the_client_is(edge, asked, source, told):
    """And only the last address that it doesn't trust itself counts."""
    with edge.connect(source=source) as connection:
        claim = b"X-Forwarded-For: 6.6.6.6, 192.0.2.7, 127.0.0.9\r\n"
        connection.sendall(request(edge, headers=claim))
        connection.recv(65536)
    assert [headers["X-Forwarded-For"] for _line, headers in asked] == [told]


class H2:
    """Just enough HTTP/2 to send what no library would."""

    PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    STATUS = {0x88: 200, 0x8C: 400, 0x8D: 404, 0x8E: 500}  # as RFC 7541 numbers them

    def __init__(self, edge):
        tls = edge.trust()
        tls.set_alpn_protocols(["h2"])
        self.connection = edge.connect(tls=tls)
        assert self.connection.selected_alpn_protocol() == "h2"
        self.connection.sendall(self.PREFACE + self.frame(4))

    @staticmethod
    def frame(kind, flags=0, stream=0, payload=b""):
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    def ask(self, headers, body=b""):
        """Send one request; return its status, or None if nginx refuses the stream or the connection."""
        block = b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in headers)
        self.connection.sendall(self.frame(1, 4 if body else 5, 1, block))
        if body:
            self.connection.sendall(self.frame(0, 1, 1, body))
        with self.connection, self.connection.makefile("rb") as answer:
            while head := answer.read(9):
                payload = answer.read(int.from_bytes(head[:3], "big"))
                if head[3] == 1:
                    return self.STATUS.get(payload[0]) or int(payload[2:5])
                if head[3] in (3, 7):  # RST_STREAM, GOAWAY
                    return None


def h2_request(edge, *more, path=b"/asked", method=b"GET", authority=b"localhost"):
    pseudo = {b":method": method, b":scheme": b"https", b":path": path, b":authority": authority}
    return [item for item in pseudo.items() if item[1]] + [(b"cookie", edge.let_in["Cookie"].encode()), *more]


def test_http_2_is_spoken(edge, asked):
    assert H2(edge).ask(h2_request(edge, (b"x-fine", b"passes"))) == 200
    ((line, headers),) = asked
    assert (line, headers["Host"], headers["X-Fine"]) == ("GET /asked HTTP/1.1", "localhost", "passes")


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
        ([], {"path": b"/asked HTTP/1.1\r\nHost: evil\r\n\r\nGET /smuggled"}),
        ([], {"path": b"asked"}),
        ([], {"method": b"GET /smuggled HTTP/1.1\r\n\r\nGET"}),
        ([], {"authority": b"localhost\r\nX-A: b"}),
        ([], {"authority": b"evil.example"}),
        ([], {"authority": b""}),
    ],
)
def test_what_http_2_could_smuggle_is_refused(edge, asked, more, options):
    status = H2(edge).ask(h2_request(edge, *more, **options), LAST_CHUNK + SMUGGLED if options.get("method") else b"")
    assert status in (None, 400, 421, 501)
    assert asked == []
    assert edge.node.received == []


@pytest.mark.parametrize("length", [b"0", b"5", b"500"])
def test_a_length_that_http_2_contradicts_is_refused(edge, asked, length):
    headers = h2_request(edge, (b"content-length", length), method=b"POST")
    assert H2(edge).ask(headers, SMUGGLED) in (None, 400)
    assert asked == []
