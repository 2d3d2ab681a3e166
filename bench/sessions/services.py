"""A Redis, an nginx, and a gunicorn for each session layer, and measurements of them under load."""

import http.client
import json
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from layers import LAYERS, USER
from lib.app_nodes import start_node
from lib.redis_server import REDIS_PASSWORD, RedisServer, free_port

from bench.host import GUNICORN_CORES, OTHER_CORES, cpu_seconds, pinned, pinning

HERE = Path(__file__).parent
METHODS = {"/read": "GET", "/write": "POST"}
THREADS, CONNECTIONS = 4, 8
GUNICORN_OPTIONS = f"--keep-alive 75 --log-level warning --chdir {HERE}"


class Services:
    """Starts all servers at once; `stack` stops them."""

    def __init__(self, stack: ExitStack, folder: Path):
        """folder: for the files of the servers."""
        self._stack = stack
        self._cookies: dict[str, str] = {}
        self._workers: dict[str, int] = {}  # process id of each layer's worker
        self._ports = {layer: free_port() for layer in LAYERS}  # nginx listens on these
        with pinning(OTHER_CORES):
            redis = RedisServer(folder, options="--appendfsync everysec").start()
        stack.callback(redis.kill)
        self._redis = redis.pid
        environ = {"REDIS_PORT": str(redis.port), "REDIS_PASSWORD": REDIS_PASSWORD}
        servers = "".join(self._start_gunicorn(layer, environ) for layer in LAYERS)
        config = folder / "nginx.conf"
        config.write_text(
            (HERE / "nginx.conf").read_text().replace("$FOLDER", str(folder)).replace("$SERVERS", servers)
        )
        command = pinned(["/usr/sbin/nginx", "-e", "stderr", "-c", config], OTHER_CORES)
        self._stop_later(subprocess.Popen(command, stdout=sys.stderr))
        _wait_for(self._ports["none"])

    def log_in(self, layer: str) -> None:
        """Log in, and verify the response of each route: the speed of an error page is of no interest."""
        if layer not in ("none", "one_get"):
            _expect(layer, self._request(layer, "/read"), (401, None))
        status, body = self._request(layer, "/login", "POST")
        _expect(layer, (status, body and body["user"]), (200, USER))
        assert body
        self._workers[layer] = body["pid"]
        for route, count in ("/read", 0), ("/write", 1), ("/read", 1), ("/write", 2), ("/read", 2):
            _expect(layer, self._request(layer, route), (200, {"user": USER, "counter": count}))

    def measure(self, layer: str, route: str) -> tuple[float, float, float]:
        """Send requests for a second.

        Returns requests per second, and CPU microseconds per request of gunicorn's worker and of Redis. Exits if a
        response isn't 2xx.
        """
        url = f"http://127.0.0.1:{self._ports[layer]}{route}"
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d1s", "-s", HERE / "load.lua", url, "-H"]
        command += [f"Cookie: {self._cookies.get(layer, 'session=none')}", "--", METHODS[route]]
        before = self._cpu_seconds(layer)
        output = subprocess.run(pinned(command, OTHER_CORES), capture_output=True, text=True, check=True).stdout
        after = self._cpu_seconds(layer)
        requests, microseconds, failed = map(int, output.splitlines()[-1].split())
        _expect(f"{layer} {route}, failed requests", failed, 0)
        worker, redis = ((end - begin) * 1e6 / requests for begin, end in zip(before, after, strict=True))
        return requests / microseconds * 1e6, worker, redis

    def _cpu_seconds(self, layer: str) -> list[float]:
        """CPU seconds so far of gunicorn's worker and of Redis."""
        return [cpu_seconds(process) for process in (self._workers[layer], self._redis)]

    def _start_gunicorn(self, layer: str, environ: dict[str, str]) -> str:
        """Returns the configuration of nginx for it."""
        process, port = start_node(
            environ,
            sys.stderr,
            threads=THREADS,
            options=GUNICORN_OPTIONS,
            app=f"layers:create_app('{layer}')",
            wrapper=pinned([], GUNICORN_CORES),
        )
        self._stop_later(process)
        _wait_for(port)
        return (
            f"upstream {layer} {{ server 127.0.0.1:{port}; keepalive {CONNECTIONS}; keepalive_requests 1000000; }}\n"
            f"server {{ listen 127.0.0.1:{self._ports[layer]}; location / {{ proxy_pass http://{layer}; }} }}\n"
        )

    def _request(self, layer: str, route: str, method: str | None = None) -> tuple[int, dict[str, Any] | None]:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[layer], timeout=10)
        connection.request(method or METHODS[route], route, headers={"Cookie": self._cookies.get(layer, "")})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        for cookie in SimpleCookie(response.headers.get("Set-Cookie", "")).values():
            self._cookies[layer] = f"{cookie.key}={cookie.value}"
        return response.status, json.loads(body) if response.status == 200 else None

    def _stop_later(self, process: subprocess.Popen[bytes]) -> None:
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                sys.exit(f"no server listens on port {port}")
            time.sleep(0.05)


def _expect(subject: str, found: object, expected: object) -> None:
    if found != expected:
        sys.exit(f"{subject}: found {found}, expected {expected}. Nothing was measured.")
