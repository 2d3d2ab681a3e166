"""A primary, its replicas, and Sentinels: real processes on loopback."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flask_shared_session.redis_client import client_options
from redis import Redis, RedisError

from lib.redis_server import ACL_COMMANDS, PROGRAMS, REDIS_PASSWORD, RedisServer, free_port

SERVICE = "sessions"
COMMANDS = f"{ACL_COMMANDS} +wait +role"


@contextmanager
def replicated(folder: Path, name: str, options: str = "") -> Iterator[list[RedisServer]]:
    """Run a primary and two replicas. name: of the server program. options: additional options of all of them."""
    options = f"--masteruser admin --masterauth {REDIS_PASSWORD} --repl-diskless-sync-delay 0 {options}"
    servers: list[RedisServer] = []
    try:
        for number in range(3):
            (folder / f"redis{number}").mkdir()
            of = f" --replicaof 127.0.0.1 {servers[0].port}" if servers else ""
            servers.append(RedisServer(folder / f"redis{number}", name, options + of, COMMANDS).start())
        yield servers
    finally:
        for server in servers:
            server.kill()


@contextmanager
def sentinels(folder: Path, name: str, primary: int, number: int = 1, options: str = "") -> Iterator[list[Redis]]:
    """Run Sentinels, of which a majority decides; yield their clients.

    name: of the server program. primary: its port. options: of Sentinel for the service, such as
    "down-after-milliseconds 1000", each on a line.
    """
    with ExitStack() as stack:
        clients = []
        for each in range(number):
            port, file = free_port(), folder / f"sentinel{each}.conf"
            lines = [f"sentinel {line.split()[0]} {SERVICE} {line.split()[1]}" for line in options.splitlines()]
            file.write_text(
                f"""
                bind 127.0.0.1
                port {port}
                dir {folder}
                sentinel monitor {SERVICE} 127.0.0.1 {primary} {number // 2 + 1}
                sentinel auth-user {SERVICE} admin
                sentinel auth-pass {SERVICE} {REDIS_PASSWORD}
                """
                + "\n".join(lines)
            )
            command = [*PROGRAMS[name], file, "--sentinel"]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            stack.callback(process.kill)
            clients.append(stack.enter_context(Redis(port=port, decode_responses=True, **client_options())))
        _wait(clients)
        yield clients


def _wait(clients: list[Redis]) -> None:
    """Wait until each Sentinel knows the others and both replicas."""
    deadline = time.monotonic() + 30
    for client in clients:
        while not _is_ready(client, len(clients) - 1):
            assert time.monotonic() < deadline, "the Sentinels aren't ready after 30 s"
            time.sleep(0.05)


def _is_ready(client: Redis, others: int) -> bool:
    try:
        known: Any = client.sentinel_master(SERVICE)
        replicas: Any = client.sentinel_slaves(SERVICE)
        links = [each["master-link-status"] for each in replicas]
    except (RedisError, KeyError):  # not yet
        return False
    return bool(known["num-other-sentinels"] == others and links == ["ok", "ok"])
