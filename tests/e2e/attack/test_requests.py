"""Requests that no browser sends: refused by the balancer, or answered without effect of the trick."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest
from lib.cluster import Cluster, eventually

if TYPE_CHECKING:
    from .conftest import Attacker

Answers = list[tuple[int, str, str]]
Send = Callable[[dict[str, str]], dict[str, Answers]]

SECRET = "root:", "APP_SECRET_KEY", "import "  # of /etc/passwd, of the settings and the source of a node
LIMIT = 10  # app_login_failures: of one address for one user; from all addresses twice as many
API = "POST /api/counter HTTP/1.1\nHost: {name}\nContent-Type: application/json\n"
INNER = "GET /smuggled HTTP/1.1\nHost: {name}\n\n"


def get(path: str, *headers: str) -> str:
    """Return a request for a path, with more headers."""
    return "\n".join([f"GET {path} HTTP/1.1", "Host: {name}", *headers, "", ""])


# The request, and the status of the answer: with "node" if a node answers, otherwise from the balancer.
TRICKS = {
    "out of the root": (get("/../../etc/passwd"), "400"),
    "out of the root, encoded": (get("/..%2f..%2f..%2fetc/passwd"), "400"),
    "out of the static files": (get("/static/..%2f..%2fconfig.py"), "400"),
    "out of the static files, encoded": (get("/static/%2e%2e/%2e%2e/config.py"), "400"),
    "another site's address as a path": (get("//evil.test/"), "404 node"),
    "NUL in the path": (get("/api/session%00"), "400"),
    "the balancer's inner pages": (get("/.balancer/error.html"), "404"),
    "a wrong bypass token": (get("/.balancer/bypass/open-sesame"), "404"),
    "the metrics": (get("/metrics"), "404 node"),
    "a path of 64 KiB": (get("/" + "a" * 65536), "414"),
    "a cookie of 64 KiB": (get("/", "Cookie: __Host-session=" + "a" * 65536), "431"),
    "64 KiB of cookies": (get("/", *[f"Cookie: c{number}={'a' * 4000}" for number in range(16)]), "431"),
    "5000 headers": (get("/", *[f"X-{number}: x" for number in range(5000)]), "431"),
    "another host": (get("/").replace("{name}", "evil.test"), "421"),
    "two hosts": (get("/", "Host: evil.test"), "400"),
    "no host": ("GET / HTTP/1.1\n\n", "400"),
    "an address that is another host's": (get("https://evil.test/"), "421"),
    "an address that differs from Host": ("GET https://{name}/ HTTP/1.1\nHost: evil.test\n\n", "400"),
    "another path in a header": (get("/healthz", "X-Original-URL: /sessions", "X-Rewrite-URL: /sessions"), "200 node"),
    "another method in a header": (API + "X-HTTP-Method-Override: DELETE\nContent-Length: 2\n\n[]", "400 node"),
    "NUL in a header": (get("/", "X-A: a\0b"), "400"),
    "a header's name with a space": (get("/", "X-A : a"), "400"),
    "a header that is folded": (get("/", "X-A: a", " b"), "400"),
    "a header behind a lone CR": (get("/", "X-A: a\rX-Forwarded-For: 192.0.2.1"), "400"),
    "TRACE": ("TRACE / HTTP/1.1\nHost: {name}\n\n", "405"),
    "CONNECT": ("CONNECT evil.test:443 HTTP/1.1\nHost: {name}\n\n", "400"),
    "HTTP of the future": ("GET / HTTP/9.9\nHost: {name}\n\n", "505"),
    "a body of a terabyte": (API + "Content-Length: 999999999999\n\n", "413"),
    "HTTP/2 without TLS": (get("/healthz", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"), "200 node"),
}
# Requests with an ambiguous end: balancer and node might disagree, and the rest would be another request.
SMUGGLING = {
    "length and chunks": "Content-Length: 6\nTransfer-Encoding: chunked\n\n0\n\n" + INNER,
    "chunks and length": "Transfer-Encoding: chunked\nContent-Length: 4\n\n5e\n" + INNER + "\n0\n\n",
    "an unknown encoding": "Transfer-Encoding: xchunked\n\n0\n\n" + INNER,
    "two encodings": "Transfer-Encoding: chunked, identity\n\n0\n\n" + INNER,
    "two headers of encodings": "Transfer-Encoding: chunked\nTransfer-Encoding: identity\n\n0\n\n" + INNER,
    "an encoding after a space": "Transfer-Encoding : chunked\n\n0\n\n" + INNER,
    "an encoding after a vertical tab": "Transfer-Encoding:\x0bchunked\n\n0\n\n" + INNER,
    "an encoding on the next line": "Transfer-Encoding:\n chunked\n\n0\n\n" + INNER,
    "two lengths": "Content-Length: 0\nContent-Length: 40\n\n" + INNER,
    "a list of lengths": "Content-Length: 0, 40\n\n" + INNER,
    "a length with a sign": "Content-Length: +0\n\n" + INNER,
    "a negative length": "Content-Length: -1\n\n" + INNER,
    "a hexadecimal length": "Content-Length: 0x0\n\n" + INNER,
    "a length after a space": "Content-Length : 0\n\n" + INNER,
    "a negative chunk": "Transfer-Encoding: chunked\n\n-1\n\n" + INNER,
    "a chunk of 2^68 bytes": "Transfer-Encoding: chunked\n\nffffffffffffffff0\n\n" + INNER,
    "a chunk with a lone CR": "Transfer-Encoding: chunked\n\n0;\rx\n\n" + INNER,
    "a chunk longer than its length": "Transfer-Encoding: chunked\n\n5\nAAAAAAAAAA\n0\n\n" + INNER,
    "a chunk of length 0x0": "Transfer-Encoding: chunked\n\n0x0\n\n" + INNER,
}


def statuses(answers: Answers) -> str:
    """Return the statuses of the answers to a request; "node" marks a node's answers."""
    return ", ".join(f"{status}{' node' if 'x-node:' in header.lower() else ''}" for status, header, _ in answers)


@pytest.fixture
def send(attacker: Attacker) -> Send:
    """Send requests, given by name; return the answers to each."""

    def send(requests: dict[str, str]) -> dict[str, Answers]:
        texts = [text.replace("{name}", attacker.victim).replace("\n", "\r\n") for text in requests.values()]
        return dict(zip(requests, attacker.send(texts), strict=True))

    return send


def test_tricks_have_no_effect(send: Send) -> None:
    """No answer has a part of a file that isn't public."""
    answers = send({name: text for name, (text, _) in TRICKS.items()})
    assert {name: statuses(each) for name, each in answers.items()} == {
        name: status for name, (_, status) in TRICKS.items()
    }
    assert not [each for each in answers.values() if any(word in str(each) for word in SECRET)]


def _logs(cluster: Cluster, host: str, journal: str, text: str) -> bool:
    return text in cluster.run(host, journal)


def test_ambiguous_requests_are_refused(cluster: Cluster, send: Send) -> None:
    """Request smuggling: the balancer refuses each once and closes the connection; no node gets a part."""
    since = {host: cluster.run(host, "date '+%F %T'") for host in cluster.apps}
    answers = send({name: API + text for name, text in SMUGGLING.items()})
    assert {name: statuses(each) for name, each in answers.items() if statuses(each) not in ("400", "501")} == {}
    for host, start in since.items():
        cluster.client().get(host, "/after-all-of-them")
        journal = f"journalctl --no-pager -o cat -u anynode.service --since '{start}'"
        assert eventually(partial(_logs, cluster, host, journal, "/after-all-of-them"))
        assert "smuggled" not in cluster.run(host, journal)


def test_a_forged_address_changes_no_limit(cluster: Cluster, attacker: Attacker) -> None:
    """A client that claims another address in each request is a single client, and is logged by its real address."""
    body = f'{{"username": "nobody-{secrets.token_hex(4)}", "password": "wrong"}}'
    head = "POST /api/login HTTP/1.1\nHost: {name}\nContent-Type: application/json\nConnection: close\n"
    forged = ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "True-Client-IP", "X_Forwarded_For")
    requests = []
    for number in range(LIMIT + 4):
        claims = "".join(f"{name}: 203.0.113.{number}\n" for name in forged)
        claims += f"Forwarded: for=203.0.113.{number}\n"
        text = f"{head}{claims}Content-Length: {len(body)}\n\n{body}".replace("{name}", attacker.victim)
        requests.append(text.replace("\n", "\r\n"))
    answers = attacker.send(requests, attacker.sources[:1])
    assert [status for ((status, _, _),) in answers] == [401] * LIMIT + [429] * 4
    assert cluster.log_in(cluster.balancer).get(cluster.balancer).status_code == 200
    logs = cluster.run(cluster.balancer, "cat /var/log/nginx/access.log")
    logs += "".join(cluster.run(host, "journalctl --no-pager -o cat -u anynode.service") for host in cluster.apps)
    assert "203.0.113." not in logs
    assert f'"client":"{attacker.sources[0]}"' in logs
