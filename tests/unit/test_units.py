"""Units that don't start are reported with the reason and the remedy; units that run with older files are found."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from ansible.module_utils.anynode import units
from lib.ansible_runs import load_module

unit_state = load_module("plugins/modules/unit_state.py")

JOURNAL = """\
Starting redis-server.service - Advanced key-value store...
redis-server.service: Main process exited, code=exited, status=1/FAILURE
*** FATAL CONFIG FILE ERROR ***
redis-server.service: Failed with result 'exit-code'.
Failed to start redis-server.service - Advanced key-value store.
"""


class Ended(Exception):
    """Carries the result of the module."""


class Host:
    """systemctl and journalctl of a host, and a module that runs there."""

    def __init__(
        self, active: str = "active", file: str = "enabled", reload: str = "no", failing: bool = False
    ) -> None:
        self.shown = f"ActiveState={active}\nUnitFileState={file}\nNeedDaemonReload={reload}\n"
        self.failing = failing
        self.commands: list[str] = []
        self.run_command_environ_update: dict[str, str] = {}

    def run_command(self, command: list[str], check_rc: bool = False) -> tuple[int, str, str]:
        if command[:2] == ["systemctl", "show"]:
            return 0, self.shown, ""
        if command[0] == "journalctl":
            return 0, JOURNAL, ""
        self.commands.append(" ".join(command[1:]))
        return int(self.failing and not check_rc), "", ""

    def fail_json(self, msg: str) -> NoReturn:
        raise Ended({"msg": msg})

    def exit_json(self, **result: Any) -> NoReturn:
        raise Ended(result)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run the module on a host; return its result."""

    def run(host: Host, state: str, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        params = {"name": "redis-server.service", "state": state, "enabled": True, "log_files": [], "remedies": {}}
        monkeypatch.setattr(host, "params", params | options, raising=False)
        monkeypatch.setattr(host, "check_mode", check_mode, raising=False)
        monkeypatch.setattr(unit_state, "AnsibleModule", lambda **_: host)
        with pytest.raises(Ended) as ended:
            unit_state.main()
        result: dict[str, Any] = ended.value.args[0]
        return result

    return run


@pytest.mark.parametrize(
    ("host", "state", "commands"),
    [
        (Host(), "started", []),
        (Host(active="inactive"), "started", ["daemon-reload", "start redis-server.service"]),
        (Host(active="activating"), "started", ["daemon-reload", "start redis-server.service"]),
        (Host(active="reloading"), "started", []),
        (Host(file="disabled"), "started", ["enable redis-server.service"]),
        (Host(reload="yes"), "started", ["daemon-reload"]),
        (Host(reload="yes"), "restarted", ["daemon-reload", "restart redis-server.service"]),
        (Host(), "restarted", ["daemon-reload", "restart redis-server.service"]),
        (Host(active="inactive"), "reloaded", ["daemon-reload", "reload-or-restart redis-server.service"]),
    ],
)
def test_commands(run: Callable[..., dict[str, Any]], host: Host, state: str, commands: list[str]) -> None:
    assert run(host, state) == {"changed": bool(commands)}
    assert host.commands == commands


def test_check_mode_changes_nothing(run: Callable[..., dict[str, Any]]) -> None:
    host = Host(active="inactive", file="disabled", reload="yes")
    assert run(host, "restarted", check_mode=True) == {"changed": True}
    assert host.commands == []


def test_a_failure_has_the_last_messages_and_the_remedy(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """The messages of the unit itself, not systemd's about it; the log doesn't push out those in the journal."""
    log = tmp_path / "log"
    log.write_text("first\n" * 100_000 + "Bad file format\nlast\n")
    os.utime(log, (time.time() + 10,) * 2)
    remedies = {"FATAL CONFIG": "wrong", "Bad (file|format)": "Repair the file."}
    host = Host(active="activating", failing=True)
    message = run(host, "started", log_files=[str(log), "/nonexistent"], remedies=remedies)["msg"]
    assert message.startswith("redis-server.service doesn't start. Repair the file.\n")
    lines = re.findall(r"(?m)^    (.*)$", message)
    assert lines[0] == "*** FATAL CONFIG FILE ERROR ***"
    assert lines[-2:] == ["Bad file format", "last"]
    assert "Main process exited" not in message


def test_a_log_from_before_the_start_is_not_reported(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """A unit that fails before it opens its log leaves there the messages of an earlier failure."""
    log = tmp_path / "log"
    log.write_text("Bad file format\n")
    os.utime(log, (time.time() - 10,) * 2)
    host = Host(active="inactive", failing=True)
    message = run(host, "started", log_files=[str(log)], remedies={"Bad": "wrong", "FATAL": "right"})["msg"]
    assert message.startswith("redis-server.service doesn't start. right\n")
    assert "Bad" not in message


def test_a_cause_in_the_journal_is_reported(run: Callable[..., dict[str, Any]]) -> None:
    message = run(Host(failing=True), "reloaded")["msg"]
    assert message.splitlines() == [
        "redis-server.service doesn't reload.",
        "Its last messages in the journal:",
        "    *** FATAL CONFIG FILE ERROR ***",
    ]


def test_the_times_of_systemd_are_parsed() -> None:
    assert units.parse("Sun 2026-11-22 15:12:19.500000 UTC") == 1795360339.5


def test_a_file_that_changed_later_is_reported(tmp_path: Path) -> None:
    """A rename counts as a change; a missing file doesn't."""
    old = tmp_path / "old"
    old.write_text("")
    read = os.lstat(old).st_ctime
    new, link = tmp_path / "new", tmp_path / "link"
    os.utime(old, (1, 1))  # the content's time is older now
    link.symlink_to("nowhere")
    assert units.newer([str(old), str(link), str(tmp_path / "none")], read - 1) == [str(old), str(link)]
    assert units.newer([str(old)], os.lstat(old).st_ctime) == []
    old.rename(new)
    assert units.newer([str(new)], read) == [str(new)]


def test_pending_changes_are_those_that_a_running_unit_has_not_read(tmp_path: Path) -> None:
    """As systemctl shows two units: the second isn't running, so it will read all files when it starts."""
    file = tmp_path / "file"
    file.write_text("")
    started = "ExecMainStartTimestamp=Sun 2026-11-22 15:12:19.500000 UTC"
    running = "ActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no"
    shown = f"{running}\n{started}\n\nActiveState=inactive\n{started}\n"
    known = [
        {"name": name, "paths": [str(file)], "since": "ExecMainStartTimestamp"} for name in ("a.service", "b.service")
    ]
    assert units.pending(lambda _: (0, shown, ""), known) == [f"{file} changed after a.service had read it"]
    assert units.outdated(lambda _: (0, shown, ""), known) == ({"a.service": [str(file)]}, ["b.service"])
    with pytest.raises(ValueError, match="no bus"):
        units.pending(lambda _: (1, "", "no bus"), known)


def test_a_message_shows_no_secret() -> None:
    """A program quotes the line that it refuses. Ids, paths and words stay."""
    secret = "q8Zr2LmW0vTn5XcBy7KdPa31"
    journal = f"/etc/redis/users.acl:2: unknown command {secret}, request 0123456789abcdef0123456789abcdef\n"
    found = units.messages(lambda _: (0, journal, ""), "redis-server.service", [])
    assert found == {
        "the journal": ["/etc/redis/users.acl:2: unknown command [redacted], request 0123456789abcdef0123456789abcdef"]
    }
    assert units.last_message(found) == [f"last message in the journal: {found['the journal'][0]}"]
    assert units.last_message({}) == []
