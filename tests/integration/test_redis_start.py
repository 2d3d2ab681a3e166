"""A real Redis that doesn't start: the role has a remedy for its message, and the remedy works."""

import re
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.anynode.units import last_lines, remedy
from lib.ansible_runs import ROOT
from lib.redis_server import PROGRAMS, RedisServer

REMEDIES = yaml.safe_load((ROOT / "roles/redis/vars/main.yml").read_text())["__redis_remedies"]

StartLog = Callable[[RedisServer], dict[str, list[str]]]


@pytest.fixture
def start_log(tmp_path: Path) -> StartLog:
    """Start a server that must end by itself; return its messages."""

    def start_log(server: RedisServer) -> dict[str, list[str]]:
        log = tmp_path / "log"
        with suppress(pytest.fail.Exception):  # it may answer that it loads its data, and end then
            server.start(f"--logfile {log}")
        server.await_exit()
        return {"the log": last_lines(str(log))}

    return start_log


@pytest.mark.parametrize("name", PROGRAMS)
def test_zeros_at_the_end_of_the_append_only_file(tmp_path: Path, start_log: StartLog, name: str) -> None:
    """As a power failure leaves them. The command of the message repairs the file, and older writes remain."""
    server = RedisServer(tmp_path, name).start()
    server.admin.set("kept", "1", ex=600)
    server.kill()
    (file,) = tmp_path.glob("appendonlydir/*.incr.aof")
    with file.open("ab") as aof:
        aof.write(bytes(4096))
    text = remedy(start_log(server), REMEDIES)
    found = re.search(r"(cp -a .*) && systemctl restart redis-server$", text)
    assert found, text
    checker = " ".join(map(str, PROGRAMS[name])).replace("-server", "-check-aof")
    command = found[1].replace("/var/lib/redis", str(tmp_path)).replace("redis-check-aof", checker)
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert server.start().admin.get("kept") == "1"
    assert (tmp_path / "appendonlydir.damaged" / file.name).stat().st_size > file.stat().st_size
    server.kill()


def test_a_port_in_use(tmp_path: Path, start_log: StartLog) -> None:
    server = RedisServer(tmp_path)
    with socket.create_server(("127.0.0.1", server.port)):
        assert "Another process has the port" in remedy(start_log(server), REMEDIES)


def test_an_unknown_cause_has_no_remedy(tmp_path: Path, start_log: StartLog) -> None:
    server = RedisServer(tmp_path)
    (tmp_path / "users.acl").unlink()
    (tmp_path / "users.acl").mkdir()
    assert remedy(start_log(server), REMEDIES) == ""
