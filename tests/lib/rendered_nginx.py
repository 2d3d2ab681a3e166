"""The balancer's rendered files with the nginx of this computer, and nodes that answer as a test wishes."""

import re
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from lib.ansible_runs import load_module, tool
from lib.redis_server import free_port

upstream = load_module("plugins/modules/nginx_upstream.py")


def certificate(folder):
    """Make a certificate for this computer, nginx.crt, and its key; it is its own authority."""
    subject = ("-subj", "/CN=balancer", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    files = ("-keyout", folder / "nginx.key", "-out", folder / "nginx.crt")
    command = [tool("openssl", "openssl"), "req", "-x509", "-days", "2", *key, *subject, *files]
    subprocess.run(command, check=True, capture_output=True)


def configuration(folder, cluster, servers, out=(), ports=None):
    """Write the files so that they touch nothing else on this computer; return the path of nginx.conf.

    `servers` are addresses by name; those in `out` are drained; on `ports`, of HTTP and HTTPS, it listens at 127.0.0.1
    only.
    """
    certificate(folder)
    text = re.sub(r"/var/log/nginx|/run(?=/nginx\.pid)|/etc/anynode/tls", str(folder), cluster.text("nginx.conf"))
    undrain_kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    directories = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in undrain_kinds)
    text = text.replace("http {", f"http {{ {directories}", 1)
    for name in ("upstream.conf", "upstream-reads.conf", "maintenance.conf", "maintenance-bypass.conf"):
        text = text.replace(f"/etc/nginx/{name}", f"{folder}/{name}")
    if ports:
        text = re.sub(r"listen \[::\].*", "", text)
        for rendered, port in zip((18088, 18443), ports, strict=True):
            text = text.replace(f"listen {rendered}", f"listen 127.0.0.1:{port}")
        text = text.replace("user www-data;", "user root root;")  # the folder is for nobody else; ignored if not root
    (folder / "nginx.conf").write_text(text)
    for name in ("maintenance.conf", "maintenance-bypass.conf"):
        shutil.copy(cluster.files / name, folder)
    after, _alone = upstream.change({}, servers, "max_fails=2 fail_timeout=5s")
    after, _alone = upstream.change(after, drain=out)
    (folder / "upstream.conf").write_text(upstream.render(after))
    (folder / "upstream-reads.conf").write_text(upstream.render_reads(after))
    return folder / "nginx.conf"


class Node(ThreadingHTTPServer):
    """A node on loopback. It notes what it is sent, and answers with `status`, `headers` and `body` after `seconds`."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, seconds=0, status=200, port=0, headers=None, body=b"own words"):
        super().__init__(("127.0.0.1", port), Handler)
        self.seconds, self.status, self.headers, self.body = seconds, status, headers or {}, body
        self.received, self.heads, self.answered, self.closing = [], [], [], Event()
        self.address = f"127.0.0.1:{self.server_port}"
        Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Whoever was not waited for complains to nobody."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one segment: two would wait for each other's acknowledgement

    def answer(self):
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

    do_GET = do_HEAD = do_POST = do_OPTIONS = answer

    def send_error(self, *_arguments, **_options):
        """What is no request; nginx must not send that."""
        self.server.received.append(("?", self.raw_requestline))
        self.close_connection = True

    def log_message(self, *_arguments):
        pass


class Balancer:
    """An nginx that runs. `port` is that of HTTPS, `plain_port` that of HTTP."""

    def __init__(self, plain_port, port, key, authority):
        self.plain_port, self.port = plain_port, port
        self.let_in = {"Cookie": f"maintenance={key}"}
        self.authority = authority
        self.tls = self.trust()

    def trust(self):
        """What a client that trusts this balancer's authority is made of."""
        return ssl.create_default_context(cafile=self.authority)

    def ask(self, method="GET", path="/", headers=None, plain=False, **server_options):
        """Return status, headers and body of the answer, and the seconds that it took; maintenance is passed."""
        if plain:
            connection = HTTPConnection("127.0.0.1", self.plain_port, timeout=30)
        else:
            connection = HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)
        begin = time.monotonic()
        try:
            connection.request(method, path, headers=self.let_in | (headers or {}), **server_options)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode(), time.monotonic() - begin
        finally:
            connection.close()

    def connect(self, plain=False, source="127.0.0.1", tls=None, name="localhost", session=None):
        """Return a socket that speaks TLS, unless it is to be plain."""
        address = "127.0.0.1", self.plain_port if plain else self.port
        connection = socket.create_connection(address, timeout=30, source_address=(source, 0))
        return connection if plain else (tls or self.tls).wrap_socket(connection, server_hostname=name, session=session)

    def send(self, request, plain=False):
        """Return all that comes back, until nginx closes the connection or says nothing more."""
        answer = b""
        with self.connect(plain) as connection, suppress(TimeoutError, ConnectionError):
            connection.sendall(request)
            while part := connection.recv(65536):
                answer += part
                connection.settimeout(0.1)
        return answer


@contextmanager
def balancer(folder, cluster, *nodes, out=()):
    """Run nginx before these nodes; those whose numbers are in `out` are drained."""
    ports = free_port(), free_port()
    servers = {str(number): node if isinstance(node, str) else node.address for number, node in enumerate(nodes)}
    path = configuration(folder, cluster, servers, map(str, out), ports)
    command = [tool("nginx", "nginx-light"), "-c", path, "-g", "daemon off;"]
    with (folder / "stderr").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        # nginx writes its pid when it listens.
        while not (folder / "nginx.pid").exists():
            assert process.poll() is None, (folder / "stderr").read_text()
            time.sleep(0.01)
        yield Balancer(*ports, cluster.secrets["nginx_maintenance_bypass_token"], folder / "nginx.crt")
    finally:
        process.terminate()
        process.wait(10)
        for node in nodes:
            if isinstance(node, Node):
                node.close()
