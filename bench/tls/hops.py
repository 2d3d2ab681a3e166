"""The operations on both hops, plain and with TLS. `stack` stops the started servers."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http.client import HTTPSConnection
from itertools import count
from pathlib import Path
from typing import Any

from flask_shared_session import RedisStore
from flask_shared_session.ids import make_id
from flask_shared_session.redis_client import make_client
from lib.ansible_runs import ROOT, SOURCES, Cluster
from lib.certificates import Authority, Pair
from lib.demo_app import PASSWORD, USER, environ
from lib.redis_server import PREFIX, REDIS_PASSWORD, RedisServer
from lib.rendered_nginx import Balancer, balancer

from bench.host import GUNICORN_CORES, OTHER_CORES, cpu_seconds, pinned

VALUES = {"csrf": f'"{"x" * 43}"', "counter": "0"}  # the values of a login
CONNECTIONS = 8
# nginx's settings: verification, the CA, and TLS versions, since nginx 1.22 doesn't offer 1.3 by default
VERIFIED = "proxy_ssl_verify on; proxy_ssl_trusted_certificate {}; proxy_ssl_protocols TLSv1.2 TLSv1.3;"
# timeouts aren't measured: a busy host must not look like a Redis that doesn't answer
TIMEOUT_SECONDS = 10
LONG_TIMEOUT = f"from flask_shared_session import redis_client\nredis_client.TIMEOUT_SECONDS = {TIMEOUT_SECONDS}\n"


@dataclass
class Operation:
    """An operation on a hop, plain or with TLS.

    step: does some operations, and returns their number. ends: returns the process ids of both ends, which may start
    later than this is created. cores: of the caller. results: see measure.
    """

    step: Callable[[], int]
    ends: Callable[[], list[int]]
    cores: list[int]
    results: list[tuple[float, float]] = field(default_factory=list)

    def measure(self, seconds: float) -> None:
        """Repeat the operation for so many seconds. Adds microseconds per operation: elapsed, and CPU of both ends."""
        os.sched_setaffinity(0, self.cores)
        ends = self.ends()
        operations, began, spent = 0, time.perf_counter(), sum(map(cpu_seconds, ends))
        while (passed := time.perf_counter() - began) < seconds:
            operations += self.step()
        spent = sum(map(cpu_seconds, ends)) - spent
        self.results.append((passed * 1e6 / operations, spent * 1e6 / operations))


def start_redis(stack: ExitStack, folder: Path, authority: Authority) -> list[RedisServer]:
    """Start a server without TLS and a server with TLS only."""
    servers = []
    for tls in None, authority.issue("127.0.0.1", title="redis"):
        own = folder / f"redis-{'tls' if tls else 'plain'}"
        own.mkdir()
        servers.append(RedisServer(own, tls=tls).start())
        stack.callback(servers[-1].kill)
    return servers


def to_redis(servers: list[RedisServer], authority: Authority) -> dict[str, list[Operation]]:
    """Return the operations from the session layer, in this process and thread, to Redis: plain and TLS by name."""
    by_server = [_to_redis(*pair) for pair in zip(servers, (None, str(authority.file)), strict=True)]
    return {name: [operations[name] for operations in by_server] for name in by_server[0]}


def _to_redis(server: RedisServer, ca_file: str | None) -> dict[str, Operation]:
    client = make_client(host="127.0.0.1", port=server.port, username="app", password=REDIS_PASSWORD, ca_file=ca_file)
    store = RedisStore(client, prefix=PREFIX, idle=1800, lifetime=28800)
    session_id = make_id()
    store.create(session_id, VALUES)
    counter = count(1)
    connection: Any = client.connection_pool.get_connection()

    def connect() -> None:
        connection.disconnect()
        connection.connect()

    steps = {
        "a session is read": lambda: store.read(session_id),
        "a session is written": lambda: store.update(session_id, {"counter": str(next(counter))}, ()),
        "a new connection, with `AUTH`": connect,
    }
    ends = [os.getpid(), server.admin.info("server")["process_id"]]
    return {name: Operation(_once(step), lambda: ends, GUNICORN_CORES) for name, step in steps.items()}


def _once(call: Callable[[], object]) -> Callable[[], int]:
    def step() -> int:
        call()
        return 1

    return step


def to_app(
    stack: ExitStack, folder: Path, cluster: Cluster, redis: RedisServer, authority: Authority
) -> dict[str, list[Operation]]:
    """Return the operations from nginx to gunicorn for clients with HTTPS, configured by the roles: plain, TLS by name.

    Redis has TLS in both cases.
    """
    # nginx doesn't verify IP addresses in certificates: it requires the name of the upstream group, for every node
    pair = authority.issue("app", title="app")
    by_scheme = []
    for tls in None, pair:
        own = folder / f"app-{'tls' if tls else 'plain'}"
        own.mkdir()
        port, gunicorn = _start_gunicorn(stack, own, cluster, redis, authority, tls)
        by_scheme.append(_to_app(stack, own, cluster, port, gunicorn, tls))
    return {name: [operations[name] for operations in by_scheme] for name in by_scheme[0]}


def _to_app(
    stack: ExitStack, folder: Path, cluster: Cluster, port: int, gunicorn: int, tls: Pair | None
) -> dict[str, Operation]:
    kept, kept_process = _start_nginx(stack, folder / "kept", cluster, port, tls)
    new, new_process = _start_nginx(stack, folder / "new", cluster, port, tls, keeps=False)
    account: dict[str, Any] = {"body": json.dumps({"username": USER, "password": PASSWORD})}
    _, headers, *_ = kept.request("POST", "/api/login", {"Content-Type": "application/json"}, **account)
    cookie = next((each for each in headers.get_all("Set-Cookie", []) if each.startswith("session=")), "none")
    clients = {
        "`GET /healthz`": (_Clients(kept, "/healthz"), kept_process),
        "`GET /api/session`, logged in": (_Clients(kept, "/api/session", cookie.partition(";")[0]), kept_process),
        "`GET /healthz`, each over a new connection": (_Clients(new, "/healthz"), new_process),
    }
    return {name: Operation(step, _ends(gunicorn, nginx), OTHER_CORES) for name, (step, nginx) in clients.items()}


def _ends(gunicorn: int, nginx: int) -> Callable[[], list[int]]:
    return lambda: _family(gunicorn) + _family(nginx)


class _Clients:
    """Clients with a kept connection to nginx. All send a request; then all read their responses."""

    def __init__(self, nginx: Balancer, path: str, cookie: str = "a=b"):
        self._path = path
        self._headers = {"Cookie": "; ".join([cookie, *nginx.bypass.values()])}
        self._connections = [
            HTTPSConnection("127.0.0.1", nginx.port, timeout=30, context=nginx.tls) for _ in range(CONNECTIONS)
        ]
        self()

    def __call__(self) -> int:
        """Send a request on each connection. Exits on an error: the speed of an error page is of no interest."""
        for connection in self._connections:
            connection.request("GET", self._path, headers=self._headers)
        for connection in self._connections:
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                sys.exit(f"{self._path}: {response.status} {body.decode()}Nothing was measured.")
        return len(self._connections)


def _start_gunicorn(
    stack: ExitStack, folder: Path, cluster: Cluster, redis: RedisServer, authority: Authority, tls: Pair | None
) -> tuple[int, int]:
    """Returns its port and process id."""
    config = folder / "gunicorn.conf.py"
    certificate = f"certfile, keyfile = {str(tls.certificate)!r}, {str(tls.key)!r}\n" if tls else ""
    config.write_text(cluster.text("app1/gunicorn.conf.py") + LONG_TIMEOUT + certificate)
    shutil.copy(ROOT / "roles/app/files/gunicorn_runtime.py", folder)
    settings = environ(redis.port, APP_REDIS_CA_FILE=str(authority.file), PYTHONPATH=SOURCES)
    # like systemd, pass a listening socket: connections wait until gunicorn is ready
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "gunicorn", "--config", config, "--log-level", "warning"]
        process = subprocess.Popen(
            pinned([*command, "--bind", f"fd://{listener.fileno()}", "anynode:create_app()"], GUNICORN_CORES),
            env=os.environ | settings,
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        return listener.getsockname()[1], process.pid


def _start_nginx(
    stack: ExitStack, folder: Path, cluster: Cluster, port: int, tls: Pair | None, keeps: bool = True
) -> tuple[Balancer, int]:
    """keeps: whether nginx keeps its connections to gunicorn. Returns the balancer and its process id."""
    files = shutil.copytree(cluster.files, folder / "rendered")
    config = files / "nginx.conf"
    text = config.read_text()
    if tls:
        text = _replace(text, "proxy_pass http:", "proxy_pass https:")
        text = _replace(text, "proxy_http_version 1.1;", f"proxy_http_version 1.1; {VERIFIED.format(tls.ca)}")
    if not keeps:
        text = _replace(text, "keepalive 32;", "")
    config.write_text(text)
    nginx = stack.enter_context(balancer(folder, replace(cluster, files=files), f"127.0.0.1:{port}"))
    return nginx, int((folder / "nginx.pid").read_text())


def _replace(text: str, old: str, new: str) -> str:
    if old not in text:
        sys.exit(f"The rendered nginx.conf has no {old!r} any more. Nothing was measured.")
    return text.replace(old, new)


def _family(process: int) -> list[int]:
    """The ids of the process and its children."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *map(int, children)]
