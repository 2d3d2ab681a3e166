"""Deployments of a node: preparing, activating, restoring, marking and pruning them, without systemd."""

import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.anynode import deployments
from lib.ansible_runs import load_module

module = load_module("plugins/modules/app_deployment.py")
switch_to = module.switch_to


class Node(deployments.Deployments):
    """A node's directories, which the module changes as on a real node but for systemd."""

    def prepare_release(self, release: str = "1-a", **files: str) -> None:
        """Prepare a release and settings."""
        home = self.root / "releases" / f"{release}-py3.13"
        home.mkdir(parents=True, exist_ok=True)
        secrets = {name: files.pop(name) for name in ("secrets.env",) if name in files}
        options: dict[str, Any] = {"files": {"app.env": "A=1\n"} | files, "secret_files": secrets, "release": str(home)}
        self.act("prepared", **options)

    def act(self, state: str, id: str = "", check: bool = False, **more: Any) -> bool:
        return bool(self.result(state, id, check, **more)["changed"])

    def result(self, state: str, id: str = "", check: bool = False, **more: Any) -> dict[str, Any]:
        defaults = {"by": "ada@desk", "reason": "", "name": "shop", "keep": 5, "files": {}, "secret_files": {}}
        args = defaults | {"state": state, "id": id} | more
        return dict(module.apply(self, args, check))

    def deploy(self, id: str, state: str = "good", **prepared: Any) -> bool:
        """Prepare, activate and mark a deployment."""
        self.prepare_release(**prepared)
        changed = self.act("active", id)
        self.act(state)
        return changed

    @property
    def running(self) -> str:
        return str(deployments.read_record(self.current)["id"])


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    def switch_to(node: Node, deployment: Path, name: str) -> None:
        deployments.replace_link(node.link, f"deployments/{deployment.name}")
        deployments.update_record(deployment, started=deployments.timestamp())

    monkeypatch.setattr(module, "switch_to", switch_to)
    return Node(tmp_path)


def test_a_node_is_up_to_date_once_its_health_check_passed(node: Node) -> None:
    node.prepare_release()
    assert node.outdated() == ["nothing is deployed yet"]
    assert node.act("active", "r1")
    assert node.outdated() == ["a deployment was interrupted before the health check passed"]
    node.act("good")
    assert node.outdated() == []
    assert not node.act("active", "r2")


@pytest.mark.parametrize("change", [{"release": "2-b"}, {"app.env": "A=2\n"}, {"new.conf": "x"}])
def test_release_and_settings_change_together_and_are_restored_together(node: Node, change: dict[str, str]) -> None:
    node.deploy("r1")
    node.prepare_release(**change)
    assert len(node.outdated()) == 1
    before = sorted(path.name for path in (node.current or node.next).iterdir())
    assert node.act("active", "r2")
    assert node.running == "r2"
    node.act("bad")
    assert node.act("restored")
    assert node.running == "r1"
    assert sorted(path.name for path in (node.current or node.next).iterdir()) == before
    assert (node.root / "current/app.env").read_text() == "A=1\n"
    assert len(node.outdated()) == 1, "the next run tries again"


def test_a_file_that_the_app_has_not_read_calls_for_a_deployment_of_the_same_files(node: Node) -> None:
    """Such as a CA that was restored after the app had started with another."""
    node.deploy("r1")
    node.unread = ["/etc/anynode/tls/ca.crt changed after shop.service had read it"]
    assert node.outdated() == node.unread
    assert node.act("active", "r2")
    assert node.running == "r2"


def test_the_app_reads_its_settings_its_unit_and_other_files(node: Node) -> None:
    """But not its record, which is written after the start."""
    node.deploy("r1", **{"gunicorn.conf.py": ""})
    (unit,) = deployments.app_units(node.root, "shop", ["/etc/anynode/tls/ca.crt"])
    current = [str(node.root / "current" / name) for name in ("app.env", "deployment.env", "gunicorn.conf.py")]
    others = ["/etc/systemd/system/shop.service", "/etc/anynode/tls/ca.crt"]
    assert (unit["name"], sorted(unit["paths"])) == ("shop.service", sorted(current + others))


def test_a_changed_mode_is_a_difference(node: Node) -> None:
    node.deploy("r1")
    (node.next / "app.env").chmod(0o600)
    assert node.outdated() == ["app.env changed"]


def test_an_interrupted_deployment_is_repeated(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.deploy("r1")
    node.prepare_release(release="2-b")
    with monkeypatch.context() as patch:
        patch.setattr(deployments, "update_record", lambda *_args, **_options: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            node.act("active", "r2")
    assert node.running == "r1"
    deployment = node.create("r3", "ada")
    deployments.replace_link(node.link, f"deployments/{deployment.name}")  # interrupted before the restart
    assert node.outdated() == ["a deployment was interrupted before the app was restarted"]
    assert node.act("active", "r4")
    assert node.running == "r4"


def test_an_interrupted_restore_is_repeated(node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    units = {"shop.socket": "[Socket]\n", "shop.service": "[Service]\n"}
    node.deploy("r1", **units)
    node.deploy("r2", release="2-b", state="bad")
    with monkeypatch.context() as patch:
        patch.setattr(module, "switch_to", switch_to)
        patch.setattr(module, "systemctl", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(module, "UNITS", tmp_path)
        with pytest.raises(KeyboardInterrupt):
            node.act("restored")
    assert node.running == "r1"
    node.prepare_release(release="1-a", **units)
    assert node.outdated() == ["a deployment was interrupted before the app was restarted"]
    assert node.act("restored")
    assert node.outdated() == []


def test_an_incomplete_deployment_is_ignored_and_removed(node: Node) -> None:
    node.deploy("r1")
    half = node.root / "deployments" / "r2.partial"
    half.mkdir()
    (half / "deployment.json").write_text('{"run": "r2", "made": "9", "release": "1-a", "state": "new"}')
    assert [path.name for path in node.all()] == ["r1"]
    assert node.prune(keep=5) == ["r2.partial"]


def test_a_node_without_deployments_has_nothing_to_restore(node: Node) -> None:
    node.prepare_release()
    assert not node.act("bad")
    with pytest.raises(deployments.DeploymentError, match="no earlier deployment"):
        node.act("restored")


def test_a_good_deployment_is_not_marked_bad(node: Node) -> None:
    node.deploy("r1")
    assert not node.act("bad")
    assert not node.act("restored")
    assert node.running == "r1"


def test_only_a_good_deployment_is_restored(node: Node) -> None:
    node.deploy("r1")
    node.deploy("r2", release="2-b", state="bad")
    node.deploy("r3", release="3-c")
    assert deployments.read_record(node.last_good())["id"] == "r1"
    node.deploy("r4", release="4-d")
    assert deployments.read_record(node.last_good())["id"] == "r3"


def test_a_rolled_back_release_is_not_the_last_good_one_until_it_is_deployed_again(node: Node) -> None:
    for number, release in enumerate(("1-a", "2-b", "1-a"), start=1):
        node.deploy(f"r{number}", release=release)
    assert deployments.read_record(node.last_good(other_release=True))["release"] == "2-b"
    assert node.act("rolled_back", release="2-b")
    assert not node.act("rolled_back", release="2-b")
    assert node.last_good(other_release=True) is None
    assert list(node.rolled_back()) == ["2-b"]
    node.deploy("r4", release="2-b")
    assert node.rolled_back() == {}


def test_the_record_of_a_rollback_outlives_later_deployments_and_failed_ones(node: Node) -> None:
    node.deploy("r1", release="1-a")
    node.deploy("r2", release="2-b")
    node.deploy("r3", release="1-a")
    node.act("rolled_back", release="2-b")
    for number in range(4, 9):
        node.deploy(f"r{number}", release="1-a", **{"app.env": f"A={number}\n"})
        node.prune(keep=2)
    assert list(node.rolled_back()) == ["2-b"]
    node.deploy("r9", release="2-b", state="bad")
    assert list(node.rolled_back()) == ["2-b"]
    node.deploy("ra", release="2-b")
    for number in range(11, 15):
        node.deploy(f"s{number}", release="3-c", **{"app.env": f"A={number}\n"})
        node.prune(keep=2)
    assert node.rolled_back() == {}, "deploying the release again ends its rollback"


def test_the_last_good_release_is_another_release(node: Node) -> None:
    node.deploy("r1")
    node.deploy("r2", release="2-b")
    node.deploy("r3", release="2-b", **{"app.env": "A=2\n"})
    assert deployments.read_record(node.last_good())["id"] == "r2"
    assert deployments.read_record(node.last_good(other_release=True))["id"] == "r1"


def test_without_a_good_deployment_there_is_nothing_to_restore(node: Node) -> None:
    node.deploy("r1", state="bad")
    with pytest.raises(deployments.DeploymentError, match="no earlier deployment"):
        node.act("restored")


def test_a_missing_release_is_refused_before_anything_changes(node: Node) -> None:
    node.deploy("r1")
    node.prepare_release(release="2-b")
    os.rmdir(node.root / "releases" / "2-b-py3.13")
    with pytest.raises(deployments.DeploymentError, match="2-b-py3.13 is not on this node"):
        node.act("active", "r2")
    assert node.running == "r1"


def test_old_deployments_are_removed_but_never_those_that_run_or_can_be_restored(node: Node) -> None:
    node.deploy("r0", release="0-z")
    for number in range(1, 8):
        node.deploy(f"r{number}", release=f"{number}-x", state="bad")
    node.deploy("r8", release="8-x")
    node.prune(keep=2)
    assert sorted(path.name for path in (node.root / "deployments").iterdir()) == ["r0", "r7", "r8"]
    assert sorted(path.name[:3] for path in (node.root / "releases").iterdir()) == ["0-z", "7-x", "8-x"]
    assert node.prune(keep=2) == []


def test_replaced_secrets_are_kept_nowhere(node: Node) -> None:
    """An earlier deployment wouldn't work with them either; its other files stay as they were."""
    node.deploy("r1", **{"secrets.env": "KEY=old\n"})
    node.deploy("r2", **{"secrets.env": "KEY=new\n", "app.env": "A=2\n"})
    assert node.prune(keep=5) == ["r1's secrets"]
    assert (node.root / "deployments/r1/app.env").read_text() == "A=1\n"
    assert [path.read_text() for path in node.root.rglob("secrets.env")] == ["KEY=new\n"] * 3
    assert not list(node.root.rglob("*.partial"))
    assert node.prune(keep=5) == []


def test_a_deployment_of_the_version_before_is_read(node: Node) -> None:
    """Its record has the deployment id as `run`, and a changed record has it as `id`."""
    node.deploy("r1")
    record = node.root / "deployments/r1/deployment.json"
    record.write_text(record.read_text().replace('"id"', '"run"').replace('"state"', '"why": "slow",\n "state"'))
    current = node.result("queried")["current"]
    assert (current["id"], current["reason"]) == ("r1", "slow")
    assert node.outdated() == []
    node.deploy("r2", release="2-b")
    assert node.result("queried")["last_good_release"] == "1-a"
    assert node.prune(keep=1) == []
    node.deploy("r3", release="2-b", state="bad", **{"app.env": "A=3\n"})
    deployments.update_record(node.root / "deployments/r1", state="good")
    assert '"run"' not in record.read_text()


def test_preparing_twice_changes_nothing(node: Node) -> None:
    files: dict[str, Any] = {
        "files": {"app.env": "A=1\n"},
        "secret_files": {"secrets.env": "KEY=1\n"},
        "release": "/releases/1-a-py3.13",
    }
    assert node.act("prepared", **files)
    modes = {path.name: path.stat().st_mode & 0o777 for path in node.next.iterdir() if not path.is_symlink()}
    assert modes == {"app.env": 0o644, "secrets.env": 0o600}
    assert node.next.stat().st_mode & 0o777 == 0o755
    assert not node.act("prepared", **files)
    (node.next / "left.conf").write_text("of an earlier version")
    assert node.act("prepared", **files)
    assert not (node.next / "left.conf").exists()


def test_check_mode_reports_the_difference_and_changes_nothing(node: Node) -> None:
    result = node.result("prepared", check=True, files={"app.env": "A=1\n"}, release="/releases/1-a-py3.13")
    assert (result["changed"], result["outdated"]) == (True, ["nothing is deployed yet"])
    assert list(node.root.iterdir()) == []
    node.deploy("r1")
    release = str(node.root / "releases/1-a-py3.13")
    assert node.result("prepared", check=True, files={"app.env": "A=1\n"}, release=release)["changed"] is False
    result = node.result("prepared", check=True, files={"app.env": "A=2\n"}, release=release)
    assert (result["changed"], result["outdated"]) == (True, ["app.env changed"])
    assert node.outdated() == []
    for state in ("restored", "bad", "rolled_back", "pruned"):
        assert node.act(state, check=True, release="1-a") is False
    assert node.running == "r1"


def test_a_diff_never_shows_secrets(node: Node) -> None:
    """Not even those of a file that was readable before."""
    files: dict[str, Any] = {
        "files": {"app.env": "A=1\n"},
        "secret_files": {"secrets.env": "KEY=1\n"},
        "release": "/releases/1-a-py3.13",
    }
    shown = node.result("prepared", **files)["diff"]
    assert {"after": "A=1\n", "before": "", "after_header": "next/app.env", "before_header": "next/app.env"} in shown
    assert "KEY" not in str(shown)
    (node.next / "secrets.env").chmod(0o644)
    assert "KEY" not in str(node.result("prepared", **files)["diff"])
    shown = node.result("prepared", **files | {"secret_files": {}})["diff"]
    assert shown == [{"prepared": "secrets.env: the secrets changed; they are not shown"}]


def test_python_that_does_not_compile_is_not_prepared(node: Node) -> None:
    with pytest.raises(deployments.DeploymentError, match=r"gunicorn.conf.py, line 2: "):
        node.act("prepared", files={"gunicorn.conf.py": "workers = 2\ntimeout = = 3\n"}, release="/releases/1-a-py3.13")
    assert not node.next.exists()


def test_a_deployment_that_runs_is_not_restarted_before_its_health_check(node: Node) -> None:
    node.prepare_release()
    assert node.act("active", "r1", check=True)
    assert node.act("active", "r1")
    assert not node.act("active", "r2")
    assert node.running == "r1"


def test_units_are_installed_and_the_socket_stays_open_unless_its_unit_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[str] = []
    monkeypatch.setattr(module, "UNITS", tmp_path)
    monkeypatch.setattr(module, "systemctl", lambda *words: commands.append(" ".join(words)))
    node = Node(tmp_path / "app")
    units = {"shop.socket": "[Socket]\n", "shop.service": "[Service]\n"}
    node.deploy("r1", **units)
    assert commands[:3] == ["daemon-reload", "stop shop.service", "restart shop.socket"]
    assert (tmp_path / "shop.service").read_text() == "[Service]\n"
    commands.clear()
    node.deploy("r2", **units | {"shop.service": "[Service]\nRestart=always\n"})
    assert commands == [
        "daemon-reload",
        "enable --quiet shop.socket shop.service",
        "start shop.socket",
        "restart shop.service",
    ]
