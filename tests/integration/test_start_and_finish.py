"""The plays that start and finish each operation, run by Ansible on this computer."""

import json
import os
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lib.ansible_runs import ROOT, ansible_playbook, write_inventory

Play = Callable[..., "subprocess.CompletedProcess[str]"]

HERE = {"ansible_connection": "local", "ansible_become": False}
# Nothing answers at the port, so the connection is refused at once.
LOST = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
SINCE = "2026-01-02T03:04:05Z"
INTERRUPTED = {"id": "r1", "by": "ada@desk", "since": SINCE, "what": "site.yml", "controller": "desk", "process": "1 2"}


def plays(*names: str) -> list[dict[str, Any]]:
    """Return the plays of these files, without those that they import."""
    files = [yaml.safe_load((ROOT / f"playbooks/internal/{name}.yml").read_text()) for name in names]
    return [play for file in files for play in file if "import_playbook" not in play]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run a start, a message and a finish; the files of the hosts are in tmp_path."""
    (tmp_path / "inventory/.secrets").mkdir(parents=True)
    (tmp_path / "inventory/.secrets/cluster_id").write_text("a1\n")
    message = {
        "hosts": "all",
        "gather_facts": False,
        "tags": ["always"],
        "tasks": [{"ansible.builtin.debug": {"msg": "it goes on"}}],
    }
    steps = [*plays("start"), message, *plays("audit_log", "finish")]
    for each in steps:
        each["module_defaults"] = {
            "deploy_lock": {"path": f"{tmp_path}/deploy.lock"},
            "audit_log": {"path": f"{tmp_path}/{{{{ inventory_hostname }}}}.log"},
        }
    (tmp_path / "plays.yml").write_text(yaml.safe_dump(steps, sort_keys=False))

    def run(
        *arguments: str, strategy: str = "mitogen_linear", lost: str = "app2"
    ) -> "subprocess.CompletedProcess[str]":
        groups = {"nginx": ["lb1"], "redis": ["redis1"], "app": ["app1", "app2"]}
        children = {
            name: {"hosts": {host: LOST if host == lost else HERE for host in hosts}} for name, hosts in groups.items()
        }
        inventory = write_inventory(tmp_path, {"all": {"children": children}})
        settings = {"ANSIBLE_STRATEGY": strategy, "ANSIBLE_ROLES_PATH": str(ROOT / "roles")}
        options = ("-e", "room_mb=0", *arguments)
        return ansible_playbook("-i", inventory, tmp_path / "plays.yml", *options, **settings)

    return run


def continued(done: "subprocess.CompletedProcess[str]") -> set[str]:
    """Return the hosts of the play after the start."""
    return set(re.findall(r"ok: \[(\w+)\] => \n    msg: it goes on", done.stdout))


@pytest.mark.parametrize("limit", ["all", "app"])
def test_an_unreachable_app_node_stops_the_operation_before_it_changes_anything(
    play: Play, tmp_path: Path, limit: str
) -> None:
    done = play("--limit", limit)
    assert done.returncode != 0
    assert continued(done) == set()
    assert "app2 can't be reached" in done.stdout
    assert not (tmp_path / "deploy.lock").exists()


@pytest.mark.parametrize("lost", ["lb1", "redis1"])
def test_no_operation_goes_on_without_the_balancer_or_redis(play: Play, tmp_path: Path, lost: str) -> None:
    """Whatever the operator tolerates; also if it is the first host, with which a play begins."""
    done = play("-e", "skip_unreachable=true", lost=lost)
    assert done.returncode != 0
    assert continued(done) == set()
    assert f"{lost} can't be reached, and no operation can go on without them." in " ".join(done.stdout.split())
    assert not (tmp_path / "deploy.lock").exists()


@pytest.mark.parametrize(("limit", "hosts"), [("all", {"lb1", "redis1", "app1"}), ("app", {"app1"})])
def test_the_operation_goes_on_without_an_unreachable_app_node(play: Play, limit: str, hosts: set[str]) -> None:
    assert continued(play("-e", "skip_unreachable=true", "--limit", limit)) == hosts


@pytest.mark.parametrize("strategy", ["linear", "mitogen_linear"])
def test_an_interrupted_operation_is_recorded_by_the_next(play: Play, tmp_path: Path, strategy: str) -> None:
    """Its lock is taken over, and each reachable host whose log doesn't have it gets a line."""
    lock, one, two = (tmp_path / name for name in ("deploy.lock", "lb1.log", "app1.log"))

    def operate(*arguments: str) -> None:
        done = play("-e", "skip_unreachable=true", *arguments, strategy=strategy)
        assert continued(done) == {"lb1", "redis1", "app1"}, done.stdout
        assert not lock.exists(), done.stdout

    operate()
    assert not one.exists()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    lock.write_text(json.dumps(INTERRUPTED | {"boot": boot}))
    operate()
    line = json.loads(one.read_text())
    assert line.pop("recorded_by").endswith(f"@{socket.gethostname()}")
    assert line == {
        "time": SINCE,
        "by": "ada@desk",
        "from": "desk",
        "what": "site.yml",
        "id": "r1",
        "ended": False,
    }
    assert two.read_text() == one.read_text()

    lock.write_text(json.dumps(INTERRUPTED | {"id": "r2", "boot": "another"}))
    two.write_text(own_line := '{"id": "r2"}\n')
    operate("-e", "deploy_lock_take_over=r2")
    assert [json.loads(each)["id"] for each in one.read_text().splitlines()] == ["r1", "r2"]
    assert two.read_text() == own_line


def test_an_operation_is_refused_while_another_holds_the_lock(play: Play, tmp_path: Path) -> None:
    lock = tmp_path / "deploy.lock"
    lock.write_text(json.dumps(INTERRUPTED | {"boot": "another"}))
    done = play("-e", "skip_unreachable=true")
    assert continued(done) == set()
    assert "ada@desk has held the deploy lock since" in done.stdout
    assert "-e deploy_lock_take_over=r1" in done.stdout
    assert json.loads(lock.read_text())["id"] == "r1"
