"""The nginx of this computer with the rendered configuration, and app nodes with programmable responses."""

import re
import socket
import ssl
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.message import Message
from http.client import HTTPConnection, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

from lib.ansible_runs import Cluster, load_module, tool
from lib.redis_server import free_port

upstream = load_module("plugins/modules/nginx_upstream.py")
config = load_module("plugins/modules/nginx_config.py")

REASON = {"by": "ada@desk", "since": "2026-11-22T10:00:00Z", "reason": 'a "new" disk\nand more; {'}
# A response: status, headers, body, and the seconds until it was complete.
Response = tuple[int, Message, str, float]


def certificate(directory: Path) -> None:
    """Create a self-signed certificate for this computer, nginx.crt, and its key, nginx.key."""
    subject = ("-subj", "/CN=balancer", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    files = ("-keyout", directory / "nginx.key", "-out", directory / "nginx.crt")
    command: list[str | Path] = [tool("openssl", "openssl"), "req", "-x509", "-days", "2", *key, *subject, *files]
    subprocess.run(command, check=True, capture_output=True)


def configuration(
    directory: Path,
    cluster: Cluster,
    servers: Mapping[str, str],
    drained: Collection[str] = (),
    ports: tuple[int, int] | None = None,
) -> Path:
    """Write the files so that they affect nothing else on this computer; return the path of nginx.conf.

    servers: addresses by name. drained: names of drained nodes. ports: of HTTP and HTTPS at 127.0.0.1, in place of the
    rendered ports at all addresses. Maintenance mode is on.
    """
    certificate(directory)
    text = re.sub(r"/var/log/nginx|/run(?=/nginx\.pid)|/etc/anynode/tls", str(directory), cluster.text("nginx.conf"))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    directories = "".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    text = text.replace("http {", f"http {{ {directories}", 1)
    if ports:
        text = re.sub(r"listen \[::\].*", "", text)
        for rendered, port in zip((18088, 18443), ports, strict=True):
            text = text.replace(f"listen {rendered}", f"listen 127.0.0.1:{port}")
        text = text.replace("user www-data;", "user root root;")  # pytest's directory is private; ignored if not root
    state, _last_active = upstream.change({"nodes": {}, "server_options": ""}, servers, "max_fails=2 fail_timeout=5s")
    state, _last_active = upstream.change(state, drain=drained)
    files = {
        "upstream.conf": upstream.render(state),
        "retry-methods.conf": upstream.render_retry_methods(state),
        "maintenance.conf": config.render_maintenance(REASON),
        "maintenance-bypass.conf": config.render_bypass(cluster.secrets["nginx_maintenance_bypass_token"]),
    }
    for name, content in files.items():
        (directory / name).write_text(content)
        text = text.replace(f"/etc/nginx/{name}", f"{directory}/{name}")
    path = directory / "nginx.conf"
    path.write_text(text)
    return path


class Node(ThreadingHTTPServer):
    """An app node on loopback. It records its requests, and responds with the attributes after `seconds`."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(
        self,
        seconds: float = 0,
        status: int = 200,
        port: int = 0,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"from the node",
    ) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.seconds, self.status, self.headers, self.body = seconds, status, headers or {}, body
        self.received: list[tuple[str, str | bytes]] = []
        self.heads: list[tuple[str, Message]] = []
        self.answered: list[str] = []
        self.closing = Event()
        self.address = f"127.0.0.1:{self.server_port}"
        Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when a client has closed its connection."""


class Handler(BaseHTTPRequestHandler):
    server: Node
    raw_requestline: bytes
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a single segment: a second segment would wait for the acknowledgement of the first

    def respond(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.received.append((self.command, self.path))
        self.server.heads.append((self.requestline, self.headers))
        if self.server.closing.wait(self.server.seconds):
            self.close_connection = True
            return
        self.send_response(self.server.status)
        for name, value in {"Content-Length": str(len(self.server.body)), **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else self.server.body)
        self.wfile.flush()
        self.server.answered.append(self.path)

    do_GET = do_HEAD = do_POST = do_OPTIONS = respond

    def send_error(self, *_arguments: Any, **_options: Any) -> None:
        """Record a malformed request, which nginx must not send."""
        self.server.received.append(("?", self.raw_requestline))
        self.close_connection = True

    def log_message(self, *_arguments: Any) -> None:
        pass


class Balancer:
    """A running nginx. `port` is its HTTPS port, `plain_port` its HTTP port, `node` its first node."""

    node: Node

    def __init__(self, plain_port: int, port: int, token: str, authority: Path) -> None:
        self.plain_port, self.port = plain_port, port
        self.bypass = {"Cookie": f"maintenance_bypass={token}"}
        self.authority = authority
        self.tls = self.trust()

    def trust(self) -> ssl.SSLContext:
        """Return the TLS context of a client that trusts this balancer's certificate."""
        return ssl.create_default_context(cafile=self.authority)

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        plain: bool = False,
        **options: Any,
    ) -> Response:
        """Send a request that bypasses maintenance mode; return the response. options: see http.client."""
        connection = (
            HTTPConnection("127.0.0.1", self.plain_port, timeout=30)
            if plain
            else HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)
        )
        begin = time.monotonic()
        try:
            connection.request(method, path, headers=self.bypass | dict(headers or {}), **options)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode(), time.monotonic() - begin
        finally:
            connection.close()

    def connect(
        self,
        plain: bool = False,
        source: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        name: str | None = "localhost",
        session: ssl.SSLSession | None = None,
    ) -> Any:
        """Return a socket, after the TLS handshake unless it is plain."""
        address = "127.0.0.1", self.plain_port if plain else self.port
        connection = socket.create_connection(address, timeout=30, source_address=(source, 0))
        return connection if plain else (tls or self.tls).wrap_socket(connection, server_hostname=name, session=session)

    def send(self, request: bytes, plain: bool = False) -> bytes:
        """Return everything that nginx sends before it closes the connection or pauses."""
        received = b""
        with self.connect(plain) as connection, suppress(TimeoutError, ConnectionError):
            connection.sendall(request)
            while part := connection.recv(65536):
                received += part
                connection.settimeout(0.1)
        return received


@contextmanager
def balancer(
    directory: Path, cluster: Cluster, *nodes: Node | str, drained: Collection[int] = ()
) -> Iterator[Balancer]:
    """Run nginx in front of nodes or addresses; `drained` has the numbers of the drained nodes."""
    ports = free_port(), free_port()
    servers = {str(number): node if isinstance(node, str) else node.address for number, node in enumerate(nodes)}
    path = configuration(directory, cluster, servers, list(map(str, drained)), ports)
    command: list[str | Path] = [tool("nginx", "nginx-light"), "-c", path, "-g", "daemon off;"]
    with (directory / "stderr").open("w") as stderr:
        process = subprocess.Popen(command, stdout=stderr, stderr=stderr)
    try:
        # nginx writes its pid file when it listens.
        while not (directory / "nginx.pid").exists():
            assert process.poll() is None, (directory / "stderr").read_text()
            time.sleep(0.01)
        lb = Balancer(*ports, cluster.secrets["nginx_maintenance_bypass_token"], directory / "nginx.crt")
        if nodes and isinstance(nodes[0], Node):
            lb.node = nodes[0]
        yield lb
    finally:
        process.terminate()
        process.wait(10)
        for node in nodes:
            if isinstance(node, Node):
                node.close()
