"""A real redis-server on loopback, and apps and stores that use it."""

import html
import json
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest
from anynode import create_app
from anynode.config import Config
from anynode.redis_client import make_client
from anynode.sessions import RedisStore
from redis import Redis
from werkzeug.security import generate_password_hash

USER, PASSWORD = "ada", "correct horse"
REDIS_PASSWORD = "f2b1c04a77d9"  # of a server that lives as long as the tests, on loopback
PREFIX = "anynode:"
# all that the app's Redis user may run; AUTH needs no permission
ACL_COMMANDS = (
    "+ping +evalsha +script|load +scan +type +exists +del +rename +pexpire +pttl +time"
    " +hget +hmget +hgetall +hset +hdel +hincrby +zadd +zrem +zrange"
)
# cheap to check: the tests log in often
HASH = generate_password_hash(PASSWORD, method="pbkdf2:sha256:1000")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class RedisServer:
    """A redis-server with the app's user and nobody else but `admin`, who looks at it from outside."""

    def __init__(self, folder, options="", commands=ACL_COMMANDS):
        """options: of redis-server, beyond its usual ones. commands: what the app's user may run."""
        self.port = free_port()
        self._options = options
        self._folder = folder
        self._process = None
        # `default` is off, so nobody can be it, but Redis 7.0 checks its permissions when it replays what
        # scripts wrote to the AOF: with -@all a restarted server comes up without the sessions
        (folder / "users.acl").write_text(
            "user default off ~* &* +@all\n"
            f"user admin on >{REDIS_PASSWORD} ~* &* +@all\n"
            f"user app on >{REDIS_PASSWORD} resetchannels ~{PREFIX}* -@all {commands}\n"
        )
        self.admin = self._admin()

    def _admin(self) -> Redis:
        return Redis(port=self.port, username="admin", password=REDIS_PASSWORD, decode_responses=True)

    def start(self):
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail("redis-server is not on PATH, and these tests need it: apt-get install redis-server")
        options = f"--port {self.port} --bind 127.0.0.1 --save  --appendonly yes --appendfsync no {self._options}"
        self._process = subprocess.Popen(
            [program, *options.strip().split(" "), "--dir", self._folder, "--aclfile", self._folder / "users.acl"],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                self.admin.ping()
                return self
            except Exception:
                time.sleep(0.02)
        pytest.fail("redis-server did not start within 10 s")

    def is_up(self) -> bool:
        return self._process.poll() is None

    def kill(self):
        self._process.kill()
        self._process.wait()

    def pause(self):
        """Connections are still accepted, by the kernel; nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def watch(self):
        """Collects what clients send in `.sent`, and what scripts run in `.inside`."""
        seen = _Seen()
        with self._admin().monitor() as monitor:
            yield seen
            self.admin.echo("end of watch")
            for entry in iter(monitor.next_command, None):
                words = entry["command"].split()
                if words[0] == "ECHO":
                    return
                (seen.inside if entry["client_type"] == "lua" else seen.sent).append(words[0].upper())

    def aof_bytes(self) -> int:
        return self.admin.info("persistence")["aof_current_size"]

    def keys_without_expiry(self) -> list[str]:
        return [key for key in self.admin.scan_iter(count=1000) if self.admin.pttl(key) == -1]

    def session_keys(self) -> list[str]:
        return self.admin.keys(f"{PREFIX}session:*")


class _Seen:
    def __init__(self):
        self.sent, self.inside = [], []


def redis_store(server, idle=100, lifetime=1000, **options) -> RedisStore:
    client = make_client(host="127.0.0.1", port=server.port, username="app", password=REDIS_PASSWORD)
    return RedisStore(client, prefix=PREFIX, idle=idle, lifetime=lifetime, **options)


def environ(port=6379, **changes) -> dict[str, str]:
    """Settings of a node that are right, with changes; None takes one out."""
    settings = {
        "APP_NODE": "app1",
        "APP_RELEASE": "r1",
        "APP_SECRET_KEY": "0123456789abcdef" * 2,
        "APP_USERS": json.dumps({USER: HASH, "bob": HASH}),
        "APP_REDIS_HOST": "127.0.0.1",
        "APP_REDIS_PORT": str(port),
        "APP_REDIS_PASSWORD": REDIS_PASSWORD,
    }
    return {name: value for name, value in (settings | changes).items() if value is not None}


def make_app(port=6379, **changes):
    return create_app(Config.from_environ(environ(port, **changes)))


def log_in(client, user=USER, password=PASSWORD):
    return client.post("/api/login", json={"username": user, "password": password})


def session_cookie(client, name="session"):
    cookie = client.get_cookie(name)
    return cookie.value if cookie else None


def token(client, path="/") -> str:
    """The CSRF token of the first form on a page."""
    return html.unescape(re.search(r'name="csrf" value="([^"]*)"', client.get(path).text)[1])
