"""Real servers of Redis and Valkey on loopback."""

import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import BusyLoadingError, Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

REDIS_PASSWORD = "f2b1c04a77d9"  # of a server that lives as long as the tests, on loopback
PREFIX = "anynode:"
# all that the app's Redis user may run; AUTH needs no permission
ACL_COMMANDS = (
    "+evalsha +script|load +scan +type +exists +del +rename +pexpire +pttl +time"
    " +hget +hmget +hgetall +hset +hdel +hincrby +zadd +zrem +zrange"
)


TREES = Path(__file__).parents[2] / ".cache/servers"  # of scripts/test-tools


def unpacked_program(release, path) -> list:
    """How a program of a Debian release is started where it was unpacked; the host's C library may be too old."""
    tree = TREES / release
    loader, *_others = [*tree.glob("usr/lib*/ld-linux*.so.*"), *tree.glob("lib*/ld-linux*.so.*"), None]
    if not loader or not (tree / path).exists():
        raise pytest.UsageError(f"{path} of Debian {release} isn't here: run `make test-tools`")
    folders = ("lib/*-linux-gnu*", "usr/lib/*-linux-gnu*", "usr/lib/*-linux-gnu*/systemd")
    libraries = [path for folder in folders for path in tree.glob(folder)]
    return [loader, "--library-path", ":".join(map(str, libraries)), tree / path]


def _programs() -> dict[str, list]:
    """How each server is started, by the name and version that it says it has, such as valkey-8.1."""
    host = shutil.which("redis-server")
    if not host:
        raise pytest.UsageError("the servers that these tests need aren't all here: run `make test-tools`")
    unpacked = [unpacked_program("trixie", f"usr/bin/{each}") for each in ("redis-server", "valkey-server")]
    programs = {}
    for program in ([host], *unpacked):
        said = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True).stdout
        name, version = re.match(r"(\w+) server v=(\d+\.\d+)", said).groups()
        programs.setdefault(f"{name.lower()}-{version}", program)
    return programs


PROGRAMS = _programs()
DEFAULT = next(iter(PROGRAMS))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class RedisServer:
    """A server with the app's user and nobody else but `admin`, who looks at it from outside."""

    running: "set[RedisServer]" = set()

    def __init__(self, folder, name=DEFAULT, options="", commands=ACL_COMMANDS, tls=None):
        """name: one of PROGRAMS. options: beyond the usual ones. commands: what the app's user may run.

        tls: the Pair that it shows, on its only port then.
        """
        self.port = free_port()
        self._tls = tls
        self._program = PROGRAMS[name]
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
        retry = Retry(NoBackoff(), 0)
        tls = {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False} if self._tls else {}
        options = {"password": REDIS_PASSWORD, "decode_responses": True, "retry": retry} | tls
        return Redis(port=self.port, username="admin", **options)

    def start(self, more_options=""):
        """Returns when it answers; while it still loads its data, that is an answer too."""
        options = f"--bind 127.0.0.1 --appendonly yes --appendfsync no {self._options} {more_options}"
        files = ["--save", "", "--dir", self._folder, "--aclfile", self._folder / "users.acl"]
        if self._tls:
            files += ["--port", "0", "--tls-port", str(self.port), *self._tls.redis_options()]
        else:
            files += ["--port", str(self.port)]
        self._process = subprocess.Popen([*self._program, *options.split(), *files], stdout=subprocess.DEVNULL)
        self.running.add(self)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                self.admin.ping()
                return self
            except BusyLoadingError:
                return self
            except RedisError:
                time.sleep(0.02)
        pytest.fail(f"{self._program} did not start within 10 s")

    def kill(self):
        self.running.discard(self)
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
