"""Real Redis and Valkey servers on loopback."""

import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import pytest
from redis import BusyLoadingError, Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from lib.certificates import Pair

REDIS_PASSWORD = "f2b1c04a77d9"  # of servers that exist only during the tests, on loopback
PREFIX = "anynode:"
# all commands that the app's ACL user may run; AUTH needs no permission
ACL_COMMANDS = (
    "+evalsha +script|load +scan +type +exists +del +rename +pexpire +pttl +time"
    " +hget +hmget +hgetall +hset +hdel +hincrby +zadd +zrem +zrange"
)


TREES = Path(__file__).parents[2] / ".cache/servers"  # of scripts/test-tools


def unpacked_program(release: str, path: str) -> list[str | Path]:
    """The command for a program of an unpacked Debian release, with its own C library: the host's may be too old."""
    tree = TREES / release
    loader, *_others = [*tree.glob("usr/lib*/ld-linux*.so.*"), *tree.glob("lib*/ld-linux*.so.*"), None]
    if not loader or not (tree / path).exists():
        raise pytest.UsageError(f"{path} of Debian {release} isn't installed: run `make test-tools`")
    folders = ("lib/*-linux-gnu*", "usr/lib/*-linux-gnu*", "usr/lib/*-linux-gnu*/systemd")
    libraries = [path for folder in folders for path in tree.glob(folder)]
    return [loader, "--library-path", ":".join(map(str, libraries)), tree / path]


@cache
def _programs() -> dict[str, list[str | Path]]:
    host = shutil.which("redis-server")
    if not host:
        raise pytest.UsageError("the servers that these tests need aren't installed: run `make test-tools`")
    unpacked = [unpacked_program("trixie", f"usr/bin/{each}") for each in ("redis-server", "valkey-server")]
    programs: dict[str, list[str | Path]] = {}
    commands: list[list[str | Path]] = [[host], *unpacked]
    for program in commands:
        printed = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.match(r"(\w+) server v=(\d+\.\d+)", printed)
        assert found, printed
        programs.setdefault(f"{found[1].lower()}-{found[2]}", [*program])
    return programs


class _Programs(Mapping[str, list[str | Path]]):
    """The command of each server by the name and version that it reports, such as valkey-8.1.

    Found at first use, so that tests without servers can import this module where no server is installed.
    """

    def __getitem__(self, name: str) -> list[str | Path]:
        return _programs()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_programs())

    def __len__(self) -> int:
        return len(_programs())


PROGRAMS = _Programs()


def default_server() -> str:
    """The name of the server for tests that run on a single server: the server of the host."""
    return next(iter(PROGRAMS))


def free_port() -> int:
    """A TCP port on loopback that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return cast(int, listener.getsockname()[1])


class RedisServer:
    """A server with two ACL users: `app`, and `admin` for the tests."""

    running: ClassVar["set[RedisServer]"] = set()

    def __init__(
        self,
        folder: Path,
        name: str | None = None,
        options: str = "",
        commands: str = ACL_COMMANDS,
        tls: "Pair | None" = None,
    ):
        """folder: for its files. name: a key of PROGRAMS; None: the default. options: additional options.

        commands: permitted to the ACL user app. tls: the certificate of its only port; None: plain TCP.
        """
        self.port = free_port()
        self._tls = tls
        self._program = PROGRAMS[name or default_server()]
        self._options = options
        self._folder = folder
        # `default` is off, so nothing can authenticate as it, but Redis 7.0 checks its permissions when it replays
        # writes of scripts from the AOF: with -@all a restarted server has no sessions
        (folder / "users.acl").write_text(
            "user default off ~* &* +@all\n"
            f"user admin on >{REDIS_PASSWORD} ~* &* +@all\n"
            f"user app on >{REDIS_PASSWORD} resetchannels ~{PREFIX}* -@all {commands}\n"
        )
        self.admin: Any = self._admin()

    def _admin(self) -> Redis:
        tls: dict[str, Any] = {}
        if self._tls:
            tls = {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False}
        retry = Retry(NoBackoff(), 0)
        return Redis(
            port=self.port, username="admin", password=REDIS_PASSWORD, decode_responses=True, retry=retry, **tls
        )

    def start(self, more_options: str = "") -> Self:
        """Start the server and wait until it answers, even if it still loads its data."""
        options = f"--bind 127.0.0.1 --appendonly yes --appendfsync no {self._options} {more_options}"
        files: list[str | Path] = ["--save", "", "--dir", self._folder, "--aclfile", self._folder / "users.acl"]
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
                if self._process.poll() is not None:
                    break
                time.sleep(0.01)
        status = self._process.poll()
        self.kill()
        reason = "no answer within 10 s" if status is None else f"exit status {status}"
        pytest.fail(f"{self._program} did not start: {reason}")

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def await_exit(self) -> None:
        """Wait until the server has ended by itself. Raises subprocess.TimeoutExpired after 10 s."""
        self._process.wait(10)
        self.running.discard(self)

    def kill(self) -> None:
        """Kill the server; start() starts it again with the same data."""
        self.running.discard(self)
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Stop the process: the kernel still accepts connections, but nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the process after pause()."""
        self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def monitor(self) -> Iterator["Commands"]:
        """Record the commands that clients send in `.sent`, and the commands that scripts run in `.inside`."""
        commands = Commands()
        with cast(Any, self._admin()).monitor() as monitor:
            yield commands
            self.admin.echo("end of monitor")
            for entry in iter(monitor.next_command, None):
                words = entry["command"].split()
                if words[0] == "ECHO":
                    return
                (commands.inside if entry["client_type"] == "lua" else commands.sent).append(words[0].upper())

    def aof_bytes(self) -> int:
        """The size of the append-only file."""
        return cast(int, self.admin.info("persistence")["aof_current_size"])

    def keys_without_expiry(self) -> list[str]:
        """All keys that would stay forever."""
        keys = list(self.admin.scan_iter(count=1000))
        with self.admin.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.pttl(key)
            return [key for key, life in zip(keys, pipeline.execute(), strict=True) if life == -1]

    def session_keys(self) -> list[str]:
        """The keys of all sessions."""
        return cast(list[str], self.admin.keys(f"{PREFIX}session:*"))


class Commands:
    """Names of recorded commands, in upper case."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.inside: list[str] = []
