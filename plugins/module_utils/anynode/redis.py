"""A client of Redis on the host itself, through redis-cli."""

import json
import os
import select
import subprocess
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self


class RedisError(Exception):
    """Redis is unreachable or rejected a command; the message is its reply."""


class Redis:
    """An authenticated connection: a running redis-cli that gets a command per line.

    Passwords are passed in the environment of that process, so no list of processes and no log shows them.
    """

    def __init__(
        self,
        port: int,
        username: str,
        passwords: Iterable[str],
        ca_file: str = "",
        host: str = "127.0.0.1",
        timeout: float = 3.0,
    ) -> None:
        """Connect and authenticate with the first password that Redis accepts: during a rotation several are valid.

        ca_file: verifies the certificate of Redis; empty: no TLS. timeout: seconds for each reply.
        Raises RedisError.
        """
        self._command = ["redis-cli", "-h", host, "-p", str(port), "--user", username, "--no-auth-warning"]
        self._command += ["--json", "-2", *(["--tls", "--cacert", ca_file] if ca_file else [])]
        self._timeout, self._username, self._pending = timeout, username, b""
        for password in passwords:
            self._process = self._start(password)
            self._send("ACL", "WHOAMI")
            reply = self._line()
            if reply.startswith("AUTH failed"):
                reply = self._line()
            if reply == json.dumps(username):
                return
            self.close()
            if not reply.startswith("error:"):
                raise RedisError(reply)
        raise RedisError(f"Redis accepts none of the passwords of {username}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End redis-cli, and so the connection."""
        self._process.kill()
        self._process.communicate()
        self._pending = b""

    def query(self, *words: str | int) -> Any:
        """Return the reply to a command: None, int, str, list (a map is a list of names and values).

        Raises RedisError if Redis rejects the command or doesn't reply in time.
        """
        self._send(*words)
        # redis-cli prints some replies as several lines of text, even as JSON: the reply to a second command ends them.
        self._send("ACL", "WHOAMI")
        end, lines = json.dumps(self._username), [self._line()]
        while (line := self._line()) != end:
            lines.append(line)
        reply = "\n".join(lines)
        if reply.startswith("error:"):
            raise RedisError(reply.removeprefix("error:").strip().strip('"'))
        try:
            return json.loads(reply)
        except ValueError:
            return reply

    def _start(self, password: str) -> "subprocess.Popen[bytes]":
        environment = os.environ | {"REDISCLI_AUTH": password}
        pipe = subprocess.PIPE
        return subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=environment)

    def _send(self, *words: str | int) -> None:
        line = " ".join(json.dumps(str(word), ensure_ascii=False) for word in words) + "\n"
        assert self._process.stdin
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # redis-cli has printed the reason

    def _line(self) -> str:
        assert self._process.stdout
        end = time.monotonic() + self._timeout
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise RedisError(f"Redis did not reply within {self._timeout:g} s")
            read = os.read(self._process.stdout.fileno(), 1 << 20)
            if not read:
                raise RedisError(self._pending.decode(errors="replace") or "redis-cli ended without a reply")
            self._pending += read
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode(errors="replace")
