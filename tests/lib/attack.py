"""Attacks on a server: raw requests, slow clients, a fuzzer. Only the standard library is needed.

Also a program for a host without this project. It reads the attack from a line of JSON and writes results as lines of
JSON: `python3 attack.py <<< '{"attack": "fuzz", "target": {"host": "192.0.2.10", ...}, ...}'`
"""

import json
import random
import re
import select
import socket
import ssl
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from threading import Lock, Thread
from typing import Any

# A response: status, headers, body.
Answer = tuple[int, str, str]
HEADER = re.compile(rb"HTTP/1\.1 (\d{3})[^\r]*\r\n(.*?)\r\n\r\n", re.DOTALL)


def _context(protocol: str) -> ssl.SSLContext:
    """Return a context for an ALPN protocol that accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


CONTEXTS = {protocol: _context(protocol) for protocol in ("http/1.1", "h2")}


@dataclass
class Target:
    """The server, and the addresses of this host from which it is attacked."""

    host: str
    port: int
    name: str  # value of the Host header
    sources: list[str] = field(default_factory=lambda: [""])

    def connect(self, source: str = "", protocol: str = "http/1.1", timeout: float = 5.0) -> ssl.SSLSocket:
        """Return a connection from one of the sources. Raises OSError."""
        plain = socket.create_connection((self.host, self.port), timeout, (source, 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return CONTEXTS[protocol].wrap_socket(plain, server_hostname=self.name)


def send(target: Target, requests: list[str]) -> list[list[Answer]]:
    """Send each request from the next source; return the responses to each, as answers() does."""
    with ThreadPoolExecutor(len(target.sources)) as pool:
        return list(pool.map(lambda text, source: answers(target, text, source), requests, cycle(target.sources)))


def answers(target: Target, request: str, source: str = "", timeout: float = 10.0) -> list[Answer]:
    """Send a request; return the responses until the server closes the connection or pauses.

    timeout: seconds until the first byte; later pauses may take 2 seconds.
    """
    received = b""
    with suppress(OSError), target.connect(source, timeout=timeout) as connection:
        with suppress(OSError):  # the response may arrive before the whole request is sent
            connection.sendall(request.encode("latin-1"))
        while data := connection.recv(65536):
            received += data
            connection.settimeout(2)
    found = []
    while match := HEADER.search(received):
        header = match[2].decode("latin-1")
        stated = re.search(r"(?im)^content-length: *(\d+)", header)
        length = int(stated[1]) if stated else len(received)
        found.append((int(match[1]), header, received[match.end() :][:length].decode("latin-1")))
        received = received[match.end() + length :]
    return found


def hold(target: Target, count: int, kind: str) -> None:
    """Open `count` connections of slow clients. Print how many are open, and again for each line on stdin.

    kind: "header" sends a header that never ends, "body" a byte of the body per second, "read" reads no response.
    """
    begin = {
        "header": f"GET / HTTP/1.1\r\nHost: {target.name}\r\n".encode(),
        "body": (
            f"POST /api/counter HTTP/1.1\r\nHost: {target.name}\r\n"
            "Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
        ).encode(),
        "read": _http2(target.name),
    }[kind]
    drip = {"header": b"X-Slow: 1\r\n", "body": b" ", "read": b""}[kind]
    protocol = "h2" if kind == "read" else "http/1.1"

    def enter(source: str) -> ssl.SSLSocket | None:
        with suppress(OSError):
            connection = target.connect(source, protocol)
            connection.sendall(begin)
            connection.settimeout(0)
            return connection
        return None

    sources = cycle(target.sources)
    with ThreadPoolExecutor(16) as pool:
        held = [each for each in pool.map(enter, [next(sources) for _ in range(count)]) if each]
    print(json.dumps(len(held)), flush=True)
    while True:
        held = [connection for connection in held if _is_open(connection, drip)]
        # The caller sends a line at a time: select() doesn't see a line that Python has buffered.
        if select.select([sys.stdin], [], [], 1)[0]:
            if not sys.stdin.readline():
                return None
            held = [connection for connection in held if _is_open(connection, drip)]
            print(json.dumps(len(held)), flush=True)


def _is_open(connection: ssl.SSLSocket, drip: bytes) -> bool:
    """Send some more bytes; return whether the connection is still open."""
    try:
        if drip:
            connection.send(drip)
        while connection.recv(65536):
            pass
    except (ssl.SSLWantReadError, BlockingIOError):
        return True
    except OSError:
        pass
    connection.close()
    return False


def _http2(name: str) -> bytes:
    """Return a request with a flow-control window of 0 bytes, so that no response can be sent (RFC 9113, 6.9.2)."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    settings = frame(4, 0, 0, b"\x00\x04\x00\x00\x00\x00")
    # GET, https, /, and :authority in full: numbers of HPACK's static table (RFC 7541, appendix A)
    request = b"\x82\x87\x84\x01" + bytes([len(name)]) + name.encode()
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + frame(1, 5, 1, request)


SPICES = [
    *(b"\x00", b"\r\n", b"\n", b"\r", b" ", b"\t", b"%00", b"%", b"%ff", b"../", b"//", b"\xff\xfe", b"\xc3\x28", b";"),
    *(b"'", b'"', b"<script>", b"{{7*7}}", b"${x}", b"-1", b"0", b"99999999999999999999", b"NaN", b"null", b"[" * 2000),
    *(b"A" * 5000, b"\r\nTransfer-Encoding: chunked", b"\r\nContent-Length: 5", b"\r\nExpect: 100-continue"),
    *(b"\r\nHost: evil.test", b"\r\nX-Forwarded-For: 127.0.0.1", b"\r\nCookie: session=x", b"\r\nRange: bytes=0-1"),
    *(b"HTTP/1.0", b"HTTP/9.9", b"CONNECT ", b"TRACE ", b"OPTIONS ", b"PROPFIND ", b'{"a":' * 500, b"\xed\xa0\x80"),
]


def mutate(chance: random.Random, request: bytes, corpus: list[bytes]) -> bytes:
    """Return the request with a changed part. In four of five cases the rest is valid, so that a node receives it."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *headers = head.split(b"\r\n")
    match chance.randrange(5):
        case 0:
            return _change(chance, request, corpus)
        case 1:
            method, path, version = first.split(b" ")
            first = b" ".join([method, _change(chance, path, corpus), version])
        case 2 if body:
            body = chance.choice(SPICES)
        case 3 if body:
            body = _change(chance, body, corpus)
        case _:
            number = chance.randrange(1, len(headers))  # the first is Host
            name, _, value = headers[number].partition(b": ")
            headers[number] = name + b": " + _change(chance, value, corpus)
    length = b"Content-Length: %d" % len(body)
    headers = [length if each.startswith(b"Content-Length") else each for each in headers]
    return b"\r\n".join([first, *headers]) + b"\r\n\r\n" + body


def _change(chance: random.Random, original: bytes, corpus: list[bytes]) -> bytes:
    """Return the text with up to four small changes."""
    text = bytearray(original)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(text) + 1), chance.choice([1, 1, 2, 8, 40])
        match chance.randrange(6):
            case 0:
                text[at : at + 1] = bytes([chance.randrange(32, 256)])
            case 1:
                del text[at : at + length]
            case 2:
                text[at:at] = text[at : at + length] * chance.choice([1, 2, 50])
            case 3 | 4:
                text[at:at] = chance.choice(SPICES)
            case 5:
                other = chance.choice(corpus)
                start = chance.randrange(len(other))
                text[at:] = other[start : start + length]
    return bytes(text)


def fuzz(target: Target, corpus: list[str], count: int, seed: int) -> dict[str, Any]:
    """Send `count` mutated requests, the same for the same seed.

    Returns the number of responses by status ("none": no response within 0.3 s), the same for responses of app nodes
    (of_nodes), examples of unexpected responses (odd), and the seconds that it took.
    """
    texts = [each.encode("latin-1") for each in corpus]
    statuses: Counter[str] = Counter()
    of_nodes: Counter[str] = Counter()
    odd: list[list[str]] = []
    counting = Lock()

    def attack(number: int, source: str) -> None:
        chance = random.Random(seed * 1000 + number)
        connection = None
        for _ in range(number, count, len(target.sources)):
            request = mutate(chance, chance.choice(texts), texts)
            status, header, connection = _request(target, source, connection, request)
            with counting:
                statuses[status] += 1
                if "x-node:" in header.lower():
                    of_nodes[status] += 1
            if _is_odd(status, header) and len(odd) < 20:
                odd.append([status, header, request[:2000].decode("latin-1")])

    threads = [Thread(target=attack, args=each) for each in enumerate(target.sources)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    return {"statuses": statuses, "of_nodes": of_nodes, "odd": odd, "seconds": seconds}


def _is_odd(status: str, header: str) -> bool:
    """Return whether a response is an unexpected error; 501 and 505 are for an unsupported encoding or version."""
    is_unavailable = status == "503" and "retry-after:" in header.lower()
    return status.startswith("5") and status not in ("501", "505") and not is_unavailable


def _request(
    target: Target, source: str, connection: ssl.SSLSocket | None, request: bytes
) -> tuple[str, str, ssl.SSLSocket | None]:
    """Return status and headers of the first response, and the connection if it can be used again."""
    received = b""
    try:
        if connection is None:
            connection = target.connect(source)
        connection.settimeout(0.3)
        connection.sendall(request)
        while not (match := HEADER.search(received)) or match[1] == b"100":
            received = received[match.end() :] if match else received
            data = connection.recv(65536)
            if not data:
                raise ConnectionError
            received += data
        header = match[2].decode("latin-1")
        length = re.search(r"(?im)^content-length: *(\d+)", header)
        rest = int(length[1]) - len(received) + match.end() if length else -1
        while rest > 0 and (data := connection.recv(65536)):
            rest -= len(data)
        # Without a length, or after further responses, the start of the next response is unknown.
        if rest != 0 or re.search(r"(?im)^connection: *close", header):
            connection.close()
            connection = None
        return match[1].decode(), header, connection
    except OSError:
        if connection:
            connection.close()
        return "none", "", None


def main() -> None:
    """Run the attack that the first line of stdin describes."""
    options = json.loads(sys.stdin.readline())
    attack, target = options.pop("attack"), Target(**options.pop("target"))
    attacks: dict[str, Any] = {"send": send, "hold": hold, "fuzz": fuzz}
    print(json.dumps(attacks[attack](target, **options)), flush=True)


if __name__ == "__main__":
    main()
