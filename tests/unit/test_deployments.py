"""What a node ran, runs and should run: the decisions of the module that replaces one by another."""

import os

import pytest
from lib.ansible_runs import load_module

module = load_module("plugins/modules/app_deployment.py")
run_deployment = module.run_deployment


class Node(module.Node):
    """A node's directories, with what the module does on a real one but for systemd."""

    def prepare(self, release="1-a", **files):
        """Lay out what the node should run."""
        home = self.root / "releases" / f"{release}-py3.13"
        home.mkdir(parents=True, exist_ok=True)
        for name in ("next", "deployments"):
            (self.root / name).mkdir(exist_ok=True)
        module.link(self.next / "release", home)
        for name, text in ({"app.env": "A=1\n"} | files).items():
            (self.next / name).write_text(text)

    def act(self, state, run="", **more):
        return module.act(self, {"state": state, "run": run, "by": "ada@desk", "reason": "", "name": "shop"} | more)

    def deploy(self, run, state="good", **what):
        """Go through a whole run."""
        self.prepare(**what)
        changed = self.act("switched", run)
        self.act(state)
        return changed

    @property
    def running(self):
        return module.read(self.current)["run"]


@pytest.fixture
def node(tmp_path, monkeypatch):
    def run_deployment(node, deployment, name):
        module.link(node.link, f"deployments/{deployment.name}")
        module.record(deployment, started=module.now())

    monkeypatch.setattr(module, "run_deployment", run_deployment)
    return Node(tmp_path)


def test_a_node_is_settled_once_it_was_seen_to_work(node):
    node.prepare()
    assert node.outdated() == ["nothing runs yet"]
    assert node.act("switched", "r1")
    assert node.outdated() == ["a run was cut off before the app was seen to work"]
    node.act("good")
    assert node.outdated() == []
    assert not node.act("switched", "r2")


@pytest.mark.parametrize("change", [{"release": "2-b"}, {"app.env": "A=2\n"}, {"new.conf": "x"}])
def test_release_and_settings_change_together_and_go_back_together(node, change):
    node.deploy("r1")
    node.prepare(**change)
    assert len(node.outdated()) == 1
    before = sorted(path.name for path in (node.current).iterdir())
    assert node.act("switched", "r2")
    assert node.running == "r2"
    node.act("bad")
    assert node.act("restored")
    assert node.running == "r1"
    assert sorted(path.name for path in (node.current).iterdir()) == before
    assert (node.current / "app.env").read_text() == "A=1\n"
    assert len(node.outdated()) == 1, "the next run tries again"


def test_a_mode_is_a_difference_too(node):
    node.deploy("r1")
    (node.next / "app.env").chmod(0o600)
    assert node.outdated() == ["app.env changed"]


def test_a_run_that_was_cut_off_is_gone_on_with(node, monkeypatch):
    node.deploy("r1")
    node.prepare(release="2-b")
    with monkeypatch.context() as patch:
        patch.setattr(module, "record", lambda *_args, **_options: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            node.act("switched", "r2")
    assert node.running == "r1"
    deployment = node.make("r3", "ada")
    module.link(node.link, f"deployments/{deployment.name}")  # cut off before the restart
    assert node.outdated() == ["a run was cut off before the app was restarted"]
    assert node.act("switched", "r4")
    assert node.running == "r4"


def test_a_restore_that_was_cut_off_is_gone_on_with(node, monkeypatch):
    node.deploy("r1")
    node.deploy("r2", release="2-b", state="bad")
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_deployment", run_deployment)
        patch.setattr(module, "systemctl", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(module.shutil, "copy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            node.act("restored")
    assert node.running == "r1"
    node.prepare(release="1-a")
    assert node.outdated() == ["a run was cut off before the app was restarted"]
    assert node.act("restored")
    assert node.outdated() == []


def test_half_a_deployment_is_none_and_goes(node):
    node.deploy("r1")
    half = node.root / "deployments" / "r2.partial"
    half.mkdir()
    (half / "deployment.json").write_text('{"run": "r2", "made": "9", "release": "1-a", "state": "new"}')
    assert [path.name for path in node.deployments()] == ["r1"]
    assert node.prune(keep=5) == ["r2.partial"]


def test_a_node_that_never_ran_anything(node):
    node.prepare()
    assert not node.act("bad")
    with pytest.raises(module.Refused, match="no earlier deployment"):
        node.act("restored")


def test_what_was_good_is_not_blamed(node):
    node.deploy("r1")
    assert not node.act("bad")
    assert not node.act("restored")
    assert node.running == "r1"


def test_nothing_is_gone_back_to_but_what_was_good(node):
    node.deploy("r1")
    node.deploy("r2", release="2-b", state="bad")
    node.deploy("r3", release="3-c")
    assert module.read(node.last_good())["run"] == "r1"
    node.deploy("r4", release="4-d")
    assert module.read(node.last_good())["run"] == "r3"


def test_what_was_rolled_back_is_never_the_last_good_one_until_it_is_deployed_again(node):
    for number, release in enumerate(("1-a", "2-b", "1-a"), start=1):
        node.deploy(f"r{number}", release=release)
    assert module.read(node.last_good(other_release=True))["release"] == "2-b"
    assert node.act("rolled_back", release="2-b")
    assert not node.act("rolled_back", release="2-b")
    assert node.last_good(other_release=True) is None
    assert list(node.shunned()) == ["2-b"]
    node.deploy("r4", release="2-b")
    assert node.shunned() == {}


def test_a_mark_outlives_later_deployments_and_failed_ones(node):
    node.deploy("r1", release="1-a")
    node.deploy("r2", release="2-b")
    node.deploy("r3", release="1-a")
    node.act("rolled_back", release="2-b")
    for number in range(4, 9):
        node.deploy(f"r{number}", release="1-a", **{"app.env": f"A={number}\n"})
        node.prune(keep=2)
    assert list(node.shunned()) == ["2-b"]
    node.deploy("r9", release="2-b", state="bad")
    assert list(node.shunned()) == ["2-b"]
    node.deploy("ra", release="2-b")
    for number in range(11, 15):
        node.deploy(f"s{number}", release="3-c", **{"app.env": f"A={number}\n"})
        node.prune(keep=2)
    assert node.shunned() == {}, "whoever insisted on it took the mark back for good"


def test_the_last_good_release_is_another_one(node):
    node.deploy("r1")
    node.deploy("r2", release="2-b")
    node.deploy("r3", release="2-b", **{"app.env": "A=2\n"})
    assert module.read(node.last_good())["run"] == "r2"
    assert module.read(node.last_good(other_release=True))["run"] == "r1"


def test_without_a_good_one_there_is_nothing_to_go_back_to(node):
    node.deploy("r1", state="bad")
    with pytest.raises(module.Refused, match="no earlier deployment"):
        node.act("restored")


def test_a_release_that_is_not_there_is_refused_before_anything_changes(node):
    node.deploy("r1")
    node.prepare(release="2-b")
    os.rmdir(node.root / "releases" / "2-b-py3.13")
    with pytest.raises(module.Refused, match="2-b-py3.13 is not on this node"):
        node.act("switched", "r2")
    assert node.running == "r1"


def test_old_ones_are_removed_but_never_what_runs_or_can_be_gone_back_to(node):
    node.deploy("r0", release="0-z")
    for number in range(1, 8):
        node.deploy(f"r{number}", release=f"{number}-x", state="bad")
    node.deploy("r8", release="8-x")
    node.prune(keep=2)
    assert sorted(path.name for path in (node.root / "deployments").iterdir()) == ["r0", "r7", "r8"]
    assert sorted(path.name[:3] for path in (node.root / "releases").iterdir()) == ["0-z", "7-x", "8-x"]
    assert node.prune(keep=2) == []


def test_what_was_replaced_among_the_secrets_is_kept_nowhere(node):
    """Nor would an earlier deployment work with it; all else of that stays as it was."""
    node.deploy("r1", **{"secrets.env": "KEY=old\n"})
    node.deploy("r2", **{"secrets.env": "KEY=new\n", "app.env": "A=2\n"})
    assert node.prune(keep=5) == ["r1's secrets"]
    assert (node.root / "deployments/r1/app.env").read_text() == "A=1\n"
    assert [path.read_text() for path in node.root.rglob("secrets.env")] == ["KEY=new\n"] * 3
    assert not list(node.root.rglob("*.partial"))
    assert node.prune(keep=5) == []
