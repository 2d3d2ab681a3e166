"""One Redis, one nginx, and a gunicorn for each session layer: what they do under load."""

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from http.cookies import SimpleCookie
from pathlib import Path

from layers import LAYERS, USER

from bench.machine import GUNICORN_CORES, OTHER_CORES, cpu_seconds, pinned

HERE = Path(__file__).parent
METHODS = {"/read": "GET", "/write": "POST"}
THREADS, CONNECTIONS = 4, 8


class Services:
    """All are started at once, and ended with `stack`."""

    def __init__(self, stack: ExitStack, folder: Path):
        self._stack = stack
        self._cookies: dict[str, str] = {}
        self._workers: dict[str, int] = {}  # the process that runs each layer's app
        self._ports = {layer: _free_port() for layer in LAYERS}  # where nginx listens for each
        port, password = _free_port(), secrets.token_hex(8)
        self._redis = self._start(
            ["redis-server", "--port", port, "--bind", "127.0.0.1", "--requirepass", password, "--dir", folder]
            + ["--save", "", "--appendonly", "yes", "--logfile", "redis.log"],
            OTHER_CORES,
        )
        _wait_for(port)
        environ = {"REDIS_PORT": str(port), "REDIS_PASSWORD": password}
        servers = "".join(self._start_gunicorn(layer, environ) for layer in LAYERS)
        config = folder / "nginx.conf"
        config.write_text(
            (HERE / "nginx.conf").read_text().replace("$FOLDER", str(folder)).replace("$SERVERS", servers)
        )
        self._start(["/usr/sbin/nginx", "-e", "stderr", "-c", config], OTHER_CORES)
        _wait_for(self._ports["none"])

    def log_in(self, layer: str) -> None:
        """Exits unless each route answers as it must: nobody wants to know how fast an error page is."""
        if layer not in ("none", "one_get"):
            _expect(layer, self._ask(layer, "/read"), (401, None))
        status, answer = self._ask(layer, "/login", "POST")
        _expect(layer, (status, answer and answer["user"]), (200, USER))
        self._workers[layer] = answer["pid"]
        for route, count in ("/read", 0), ("/write", 1), ("/read", 1), ("/write", 2), ("/read", 2):
            _expect(layer, self._ask(layer, route), (200, {"user": USER, "counter": count}))

    def measure(self, layer: str, route: str) -> tuple[float, float, float]:
        """Load for a second. Requests per second; CPU-microseconds for each, of gunicorn's worker and of Redis.

        Exits if an answer isn't 2xx.
        """
        url = f"http://127.0.0.1:{self._ports[layer]}{route}"
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d1s", "-s", HERE / "load.lua", url, "-H"]
        command += [f"Cookie: {self._cookies.get(layer, 'session=none')}", "--", METHODS[route]]
        before = self._spent(layer)
        output = subprocess.run(pinned(command, OTHER_CORES), capture_output=True, text=True, check=True).stdout
        after = self._spent(layer)
        requests, microseconds, failed = map(int, output.splitlines()[-1].split())
        _expect(f"{layer} {route}, failed requests", failed, 0)
        per_request = [(end - begin) * 1e6 / requests for begin, end in zip(before, after, strict=True)]
        return requests / microseconds * 1e6, *per_request

    def _spent(self, layer: str) -> list[float]:
        """CPU-seconds so far: gunicorn's worker, Redis."""
        return [cpu_seconds(process) for process in (self._workers[layer], self._redis)]

    def _start_gunicorn(self, layer: str, environ: dict[str, str]) -> str:
        """Returns what nginx has to know of it."""
        port = _free_port()
        options = f"--worker-class gthread --threads {THREADS} --keep-alive 75 --no-control-socket --log-level warning"
        self._start(
            [sys.executable, "-m", "gunicorn", *options.split(), "--bind", f"127.0.0.1:{port}", "--chdir", HERE]
            + [f"layers:create_app('{layer}')"],
            GUNICORN_CORES,
            environ,
        )
        _wait_for(port)
        return (
            f"upstream {layer} {{ server 127.0.0.1:{port}; keepalive {CONNECTIONS}; keepalive_requests 1000000; }}\n"
            f"server {{ listen 127.0.0.1:{self._ports[layer]}; location / {{ proxy_pass http://{layer}; }} }}\n"
        )

    def _ask(self, layer: str, route: str, method: str | None = None) -> tuple[int, dict | None]:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[layer], timeout=10)
        connection.request(method or METHODS[route], route, headers={"Cookie": self._cookies.get(layer, "")})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        for cookie in SimpleCookie(response.headers.get("Set-Cookie")).values():
            self._cookies[layer] = f"{cookie.key}={cookie.value}"
        return response.status, json.loads(body) if response.status == 200 else None

    def _start(self, command: list, cores: list[int], environ: dict[str, str] | None = None) -> int:
        """Returns the id of the process."""
        process = subprocess.Popen(pinned(command, cores), env=os.environ | (environ or {}), stdout=sys.stderr)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        return process.pid


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                sys.exit(f"nothing listens on port {port}")
            time.sleep(0.05)


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        sys.exit(f"{what}: {found}, and it should be {wanted}. Nothing was measured.")
