"""Both hops, each plain and with TLS, as ways that operations can take. What is started ends with `stack`."""

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

from anynode.redis_client import make_client
from anynode.sessions import RedisStore
from anynode.sessions.ids import make_id
from lib.ansible_runs import ROOT, Cluster
from lib.certificates import Authority, Pair
from lib.demo_app import PASSWORD, USER, environ
from lib.redis_server import PREFIX, REDIS_PASSWORD, RedisServer
from lib.rendered_nginx import Balancer, balancer

from bench.machine import GUNICORN_CORES, OTHER_CORES, cpu_seconds, pinned

VALUES = {"csrf": f'"{"x" * 43}"', "counter": "0"}  # what a login keeps in the session
CONNECTIONS = 8
# what nginx would be told: that it verifies, by which CA, and of TLS what nginx 1.22 wouldn't offer by itself
VERIFIED = "proxy_ssl_verify on; proxy_ssl_trusted_certificate {}; proxy_ssl_protocols TLSv1.2 TLSv1.3;"
# no timeout is measured: a busy computer must not be taken for an ill Redis
TIMEOUT_SECONDS = 10
PATIENT = f"from anynode import redis_client\nredis_client.TIMEOUT_SECONDS = {TIMEOUT_SECONDS}\n"


@dataclass
class Way:
    """How an operation goes over a hop.

    step: does some operations, and returns how many. ends: gives the processes at both ends, which may still have been
    starting when this was made. cores: those of the caller.
    """

    step: Callable[[], int]
    ends: Callable[[], list[int]]
    cores: list[int]
    found: list[tuple[float, float]] = field(default_factory=list)

    def measure(self, seconds: float) -> None:
        """Adds the microseconds of an operation: that passed, and CPU time of both ends."""
        os.sched_setaffinity(0, self.cores)
        ends = self.ends()
        operations, began, spent = 0, time.perf_counter(), sum(map(cpu_seconds, ends))
        while (passed := time.perf_counter() - began) < seconds:
            operations += self.step()
        spent = sum(map(cpu_seconds, ends)) - spent
        self.found.append((passed * 1e6 / operations, spent * 1e6 / operations))


def start_redis(stack: ExitStack, folder: Path, authority: Authority) -> list[RedisServer]:
    """One that is plain, one with TLS and nothing else."""
    servers = []
    for tls in None, authority.issue("127.0.0.1", title="redis"):
        own = folder / f"redis-{'tls' if tls else 'plain'}"
        own.mkdir()
        servers.append(RedisServer(own, tls=tls).start())
        stack.callback(servers[-1].kill)
    return servers


def to_redis(servers: list[RedisServer], authority: Authority) -> dict[str, list[Way]]:
    """From the session layer, in this process and one call at a time, to Redis."""
    by_server = [_to_redis(*pair) for pair in zip(servers, (None, str(authority.file)), strict=True)]
    return {name: [ways[name] for ways in by_server] for name in by_server[0]}


def _to_redis(server: RedisServer, ca_file: str | None) -> dict[str, Way]:
    client = make_client(host="127.0.0.1", port=server.port, username="app", password=REDIS_PASSWORD, ca_file=ca_file)
    store = RedisStore(client, prefix=PREFIX, idle=1800, lifetime=28800)
    session_id = make_id()
    store.create(session_id, VALUES)
    counter = count(1)
    connection = client.connection_pool.get_connection()

    def connect():
        connection.disconnect()
        connection.connect()

    steps = {
        "a session is read": lambda: store.read(session_id),
        "a session is written": lambda: store.update(session_id, {"counter": str(next(counter))}, ()),
        "a new connection, with `AUTH`": connect,
    }
    ends = [os.getpid(), server.admin.info("server")["process_id"]]
    return {name: Way(_once(step), lambda: ends, GUNICORN_CORES) for name, step in steps.items()}


def _once(call: Callable[[], object]) -> Callable[[], int]:
    return lambda: (call(), 1)[1]


def to_app(
    stack: ExitStack, folder: Path, cluster: Cluster, redis: RedisServer, authority: Authority
) -> dict[str, list[Way]]:
    """From nginx to gunicorn, both as the roles configure them, for visitors over HTTPS; Redis has TLS."""
    # nginx knows no addresses in certificates: it insists on the name of its group of nodes, of whichever node it asks
    pair = authority.issue("app", title="app")
    by_scheme = []
    for tls in None, pair:
        own = folder / f"app-{'tls' if tls else 'plain'}"
        own.mkdir()
        port, gunicorn = _start_gunicorn(stack, own, cluster, redis, authority, tls)
        by_scheme.append(_to_app(stack, own, cluster, port, gunicorn, tls))
    return {name: [ways[name] for ways in by_scheme] for name in by_scheme[0]}


def _to_app(
    stack: ExitStack, folder: Path, cluster: Cluster, port: int, gunicorn: int, tls: Pair | None
) -> dict[str, Way]:
    kept, kept_process = _start_nginx(stack, folder / "kept", cluster, port, tls)
    new, new_process = _start_nginx(stack, folder / "new", cluster, port, tls, keeps=False)
    account = {"body": json.dumps({"username": USER, "password": PASSWORD})}
    _, headers, *_ = kept.ask("POST", "/api/login", {"Content-Type": "application/json"}, **account)
    cookie = next((each for each in headers.get_all("Set-Cookie", []) if each.startswith("session=")), "none")
    visitors = {
        "`GET /healthz`": (_Visitors(kept, "/healthz"), kept_process),
        "`GET /api/session`, logged in": (_Visitors(kept, "/api/session", cookie.partition(";")[0]), kept_process),
        "`GET /healthz`, each over a new connection": (_Visitors(new, "/healthz"), new_process),
    }
    return {
        name: Way(step, lambda nginx=nginx: _family(gunicorn) + _family(nginx), OTHER_CORES)
        for name, (step, nginx) in visitors.items()
    }


class _Visitors:
    """Each keeps a connection to nginx. All ask at once; then all wait for their answers."""

    def __init__(self, nginx: Balancer, path: str, cookie: str = "a=b"):
        self._path = path
        self._headers = {"Cookie": "; ".join([cookie, *nginx.let_in.values()])}
        self._connections = [
            HTTPSConnection("127.0.0.1", nginx.port, timeout=30, context=nginx.tls) for _ in range(CONNECTIONS)
        ]
        self()

    def __call__(self) -> int:
        """Exits unless all is well: nobody wants to know how fast an error page is."""
        for connection in self._connections:
            connection.request("GET", self._path, headers=self._headers)
        for connection in self._connections:
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                sys.exit(f"{self._path}: {answer.status} {body.decode()}Nothing was measured.")
        return len(self._connections)


def _start_gunicorn(
    stack: ExitStack, folder: Path, cluster: Cluster, redis: RedisServer, authority: Authority, tls: Pair | None
) -> tuple[int, int]:
    """Returns its port, and the process."""
    config = folder / "gunicorn.conf.py"
    certificate = f"certfile, keyfile = {str(tls.certificate)!r}, {str(tls.key)!r}\n" if tls else ""
    config.write_text(cluster.text("app1/gunicorn.conf.py") + PATIENT + certificate)
    shutil.copy(ROOT / "roles/app/files/gunicorn_runtime.py", folder)
    settings = environ(redis.port, APP_REDIS_CA_FILE=str(authority.file), PYTHONPATH=f"{ROOT}/app/src")
    # as systemd does it: who comes before gunicorn is ready waits
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
    """keeps: its connections to gunicorn. Returns its process, too."""
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
    """The process and its children."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *map(int, children)]
