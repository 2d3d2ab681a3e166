"""One run at a time, and whose lock was taken over."""

import json
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from lib.ansible_runs import ROOT, ansible_playbook, load_module, write_inventory

PARTS = ROOT / "playbooks" / "internal"
deploy_lock = load_module("plugins/modules/deploy_lock.py")

OVER, ADA, BOB = ({"id": name, "by": f"{name}@desk"} for name in ("over", "ada", "bob"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "deploy.lock"


def test_who_comes_second_is_told_who_holds_it(path):
    assert deploy_lock.take(path, ADA, "") == (None, None)
    assert deploy_lock.take(path, BOB, "") == (ADA, None)
    assert deploy_lock.take(path, ADA, "") == (None, None)
    deploy_lock.release(path, BOB)
    assert deploy_lock.read(path) == ADA
    deploy_lock.release(path, ADA)
    assert deploy_lock.take(path, BOB, "") == (None, None)


def test_it_is_taken_over_only_from_the_run_that_was_named(path):
    deploy_lock.take(path, OVER, "")
    assert deploy_lock.take(path, ADA, "another") == (OVER, None)
    assert deploy_lock.take(path, ADA, "over") == (None, OVER)
    assert deploy_lock.take(path, BOB, "over") == (ADA, None)


def test_nothing_that_was_cut_off_as_it_was_written_holds_it(path):
    path.parent.mkdir()
    path.write_text('{"id": ')
    assert deploy_lock.take(path, ADA, "") == (None, None)


@pytest.mark.parametrize("held", [None, OVER])
def test_of_two_at_once_one_gets_it(path, monkeypatch, held):
    """Each would see it free, or held by the run that is over, if it could look before the other has written."""
    if held:
        deploy_lock.take(path, held, "")
    looked, read = threading.Barrier(2), deploy_lock.read

    def look(path):
        seen = read(path)
        with suppress(threading.BrokenBarrierError):
            looked.wait(0.5)
        return seen

    monkeypatch.setattr(deploy_lock, "read", look)
    with ThreadPoolExecutor() as runs:
        ada, bob = runs.map(lambda holder: deploy_lock.take(path, holder, "over"), [ADA, BOB])
    assert [ada, bob] in ([(None, held), (ADA, None)], [(BOB, None), (None, held)])


@pytest.mark.parametrize("strategy", ["linear", "mitogen_linear"])
def test_who_takes_a_lock_over_notes_the_run_that_did_not_end(tmp_path, strategy):
    """By itself or because it is told to, where that run left no line; a machine that is away stops nobody."""
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexit 255\n")
    ssh.chmod(0o755)
    here = {"ansible_connection": "local", "ansible_become": False}
    away = {"ansible_host": "192.0.2.1", "ansible_ssh_executable": str(ssh)}
    groups = {"nginx": {"hosts": {"one": here}}, "app": {"hosts": {"away": away, "two": here}}}
    inventory = write_inventory(tmp_path, {"all": {"children": groups}})
    parts = [
        each
        for name in ("take_lock", "audit_log", "finish")
        for each in yaml.safe_load((PARTS / f"{name}.yml").read_text())
    ]
    plays = [each for each in parts if "import_playbook" not in each]  # finish.yml imports audit_log.yml
    for each in plays:
        each["module_defaults"] = {
            "deploy_lock": {"path": f"{tmp_path}/deploy.lock"},
            "audit_log": {"path": f"{tmp_path}/{{{{ inventory_hostname }}}}.log"},
        }
    (tmp_path / "plays.yml").write_text(yaml.safe_dump(plays))
    lock, one, two = tmp_path / "deploy.lock", tmp_path / "one.log", tmp_path / "two.log"

    def play(*arguments):
        settings = {"ANSIBLE_STRATEGY": strategy, "ANSIBLE_ROLES_PATH": str(ROOT / "roles")}
        done = ansible_playbook("-i", inventory, tmp_path / "plays.yml", *arguments, **settings)
        assert done.returncode == 0, done.stdout
        assert not lock.exists()

    play()
    assert not one.exists()
    since = "2026-01-02T03:04:05Z"
    first = {"id": "r1", "by": "ada@desk", "since": since, "what": "site.yml", "controller": "desk", "process": "1 2"}
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    lock.write_text(json.dumps(first | {"boot": boot}))
    play()
    line = json.loads(one.read_text())
    assert line.pop("noted_by").endswith(f"@{socket.gethostname()}")
    assert line == {
        "time": since,
        "by": "ada@desk",
        "from": "desk",
        "what": "site.yml",
        "run": "r1",
        "ended": False,
    }
    assert two.read_text() == one.read_text()

    lock.write_text(json.dumps(first | {"id": "r2", "boot": "another"}))
    two.write_text(its_own := '{"run": "r2"}\n')
    play("-e", "deploy_lock_take_over=r2")
    assert [json.loads(each)["run"] for each in one.read_text().splitlines()] == ["r1", "r2"]
    assert two.read_text() == its_own
