"""The balancer's rendered files with the nginx of this computer, and nodes that answer as a test wishes."""

import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from render.helpers import load_module, tool
from unit.servers import free_port

upstream = load_module("plugins/modules/upstream.py")


def configuration(folder, cluster, servers, out=(), port=None):
    """Write the files so that they touch nothing else on this computer; return the path of nginx.conf.

    `servers` are addresses by name; those in `out` are drained; on `port` it listens at 127.0.0.1 only.
    """
    text = re.sub(r"/var/log/nginx|/run(?=/nginx\.pid)", str(folder), cluster.text("nginx.conf"))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    directories = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    text = text.replace("http {", f"http {{ {directories}", 1)
    for name in ("upstream.conf", "upstream-reads.conf", "maintenance.conf", "maintenance-key.conf"):
        text = text.replace(f"/etc/nginx/{name}", f"{folder}/{name}")
    text = re.sub(r"listen .* ssl .*|ssl_certificate.*", "", text)
    if port:
        text = re.sub(r"listen \[::\].*", "", text).replace("listen 18088", f"listen 127.0.0.1:{port}")
        text = text.replace("user www-data;", "user root root;")  # the folder is for nobody else; ignored if not root
    (folder / "nginx.conf").write_text(text)
    for name in ("maintenance.conf", "maintenance-key.conf"):
        shutil.copy(cluster.files / name, folder)
    after, _alone = upstream.change({}, servers, "max_fails=2 fail_timeout=5s")
    after, _alone = upstream.change(after, take_out=out)
    (folder / "upstream.conf").write_text(upstream.render(after))
    (folder / "upstream-reads.conf").write_text(upstream.render_reads(after))
    return folder / "nginx.conf"


class Node(ThreadingHTTPServer):
    """A node on loopback. It notes what it is sent, and answers with `status` after `seconds`; None: never."""

    daemon_threads = True

    def __init__(self, seconds=0, status=200, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.seconds, self.status = seconds, status
        self.received, self.closing = [], Event()
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

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.received.append((self.command, self.path))
        if self.server.closing.wait(self.server.seconds):
            self.close_connection = True
            return
        body = b"own words"
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_HEAD = do_POST = answer

    def log_message(self, *_arguments):
        pass


class Balancer:
    """An nginx that runs."""

    def __init__(self, port, key):
        self.port = port
        self.let_in = {"Cookie": f"maintenance={key}"}

    def ask(self, method="GET", path="/", headers=None, **options):
        """Return status, headers and body of the answer, and the seconds that it took; maintenance is passed."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        begin = time.monotonic()
        try:
            connection.request(method, path, headers=self.let_in | (headers or {}), **options)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode(), time.monotonic() - begin
        finally:
            connection.close()


@contextmanager
def balancer(folder, cluster, *nodes, out=()):
    """Run nginx before these nodes; those whose numbers are in `out` are drained."""
    port = free_port()
    servers = {str(number): node if isinstance(node, str) else node.address for number, node in enumerate(nodes)}
    path = configuration(folder, cluster, servers, map(str, out), port)
    command = [tool("nginx", "nginx-light"), "-c", path, "-g", "daemon off;"]
    with (folder / "stderr").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        # nginx writes its pid when it listens.
        while not (folder / "nginx.pid").exists():
            assert process.poll() is None, (folder / "stderr").read_text()
            time.sleep(0.01)
        yield Balancer(port, cluster.secrets["nginx_maintenance_key"])
    finally:
        process.terminate()
        process.wait(10)
        for node in nodes:
            if isinstance(node, Node):
                node.close()
