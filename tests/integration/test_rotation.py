"""Secrets that are replaced: their files at each step, wherever it is cut off, and what the roles make of them."""

import hashlib
import re

import pytest
from lib.ansible_runs import ansible_playbook, inventory, load_module, render, write_inventory

module = load_module("plugins/modules/secret_files.py")
NAMES = ("one", "two")
STEPS = ("made", "taken", "forgotten", "ended")


class CutOff(Exception):
    """The run was killed."""


class Folder:
    """The directory of two secrets, and a run that may be cut off after so many changes to it."""

    def __init__(self, path, monkeypatch):
        self.path = path
        self.left = None
        self.values_made = 0
        for name in NAMES:
            module.write(path / name, f"{name} before\n")
        monkeypatch.setattr(module, "make", self.make)
        for owner, change in ((module.os, "link"), (module.Path, "rename"), (module.Path, "unlink")):
            monkeypatch.setattr(owner, change, self.limited(getattr(owner, change)))

    def make(self):
        self.values_made += 1
        return f"value {self.values_made}\n"

    def limited(self, function):
        def change(*arguments, **options):
            if self.left == 0:
                raise CutOff
            self.left = self.left and self.left - 1
            return function(*arguments, **options)

        return change

    def rotate(self, changes=None):
        """Go through all steps, for so many changes; return the values that are good after each."""
        self.left = changes
        seen = []
        for step in STEPS:
            for do in module.STATES[step]([self.path / name for name in NAMES]):
                do()
            seen.append([self.good(name) for name in NAMES])
        return seen

    def good(self, name):
        """The values that are good: the one in use first."""
        files = (self.path / name, *module.beside(self.path / name))
        texts = [path.read_text().strip() for path in files if path.exists()]
        return list(dict.fromkeys(filter(None, texts)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return Folder(tmp_path, monkeypatch)


def test_a_new_value_is_known_before_it_is_used_and_the_old_one_after(folder):
    made, taken, forgotten, ended = folder.rotate()
    assert made == [["one before", "value 1"], ["two before", "value 2"]]
    assert taken == [["value 1", "one before"], ["value 2", "two before"]]
    assert forgotten == ended == [["value 1"], ["value 2"]]
    assert sorted(path.name for path in folder.path.iterdir()) == list(NAMES)


@pytest.mark.parametrize("changes", range(14))
def test_whoever_is_cut_off_goes_on_and_makes_no_third_value(folder, changes):
    with pytest.raises(CutOff):
        folder.rotate(changes)
    # one that is missing would be made anew by whoever looks it up
    assert all((folder.path / name).exists() for name in NAMES)
    seen = {name: folder.good(name) for name in NAMES}
    folder.rotate()
    for name in NAMES:
        (now,) = folder.good(name)
        assert now != f"{name} before"
        assert len({f"{name} before", *seen[name], now}) == 2
    assert sorted(path.name for path in folder.path.iterdir()) == list(NAMES)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.path.iterdir())


def test_a_rotation_that_ended_is_followed_by_a_new_one(folder):
    folder.rotate()
    folder.rotate()
    assert [folder.good(name) for name in NAMES] == [["value 3"], ["value 4"]]


def test_what_is_made_is_long_and_random():
    made = {module.make().strip() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9]{64}", value) for value in made)


def digest(secret):
    return hashlib.sha256(secret.encode()).hexdigest()


def passwords_id(cluster):
    (found,) = re.findall(r"^# (\w{64})$", cluster.text("app1/secrets.env"), re.MULTILINE)
    return found


def test_in_the_middle_both_values_are_good_whatever_is_deployed(tmp_path):
    """As a plain site.yml finds them."""
    secrets = tmp_path / "inventory" / ".secrets"
    before = render(tmp_path, 1)
    alone = passwords_id(before)
    for name, kind in (("redis_app_password", "new"), ("redis_admin_password", "old"), ("app_secret_key", "old")):
        module.write(secrets / f"{name}.{kind}", f"{kind}-{name}-that-is-long-enough\n")
    module.write(secrets / "app_secret_key.new", "")  # as an emptied one, it counts for nothing
    hosts = tmp_path / "inventory" / "hosts.yml"
    done = ansible_playbook("-i", hosts, "tests/lib/render.yml", "-e", f"rendered={before.files}")
    assert done.returncode == 0, done.stdout
    _, admin, app = before.text("users.acl").splitlines()
    for line, name, kind in ((admin, "redis_admin_password", "old"), (app, "redis_app_password", "new")):
        good = {before.secrets[name], f"{kind}-{name}-that-is-long-enough"}
        assert set(re.findall(r"#(\w+)", line)) == {digest(secret) for secret in good}
    env = before.env("app1/secrets.env")
    assert env["APP_REDIS_PASSWORD"] == before.secrets["redis_app_password"]
    assert env["APP_SECRET_KEY"] == before.secrets["app_secret_key"]
    assert env["APP_SECRET_KEY_FALLBACKS"] == "old-app_secret_key-that-is-long-enough"
    # So nodes are rolled, with new connections, before Redis hangs up on old ones; also where their other secrets stay.
    assert passwords_id(before) != alone


def test_what_a_cut_off_rotation_left_is_not_good_once_the_inventory_has_a_value_of_its_own(tmp_path):
    own = {"redis_app_password": "q8Zr2LmW0vTn5XcBy7Kd", "app_secret_key": "q8Zr2LmW0vTn5XcBy7Kdq8Zr2LmW0vTn5XcBy7Kd"}
    secrets = tmp_path / "inventory" / ".secrets"
    secrets.mkdir(parents=True)
    for name in own:
        for path in (secrets / name, *module.beside(secrets / name)):
            module.write(path, f"left-in-{path.name}-that-is-long-enough\n")
    done = render(tmp_path, 1, **own)
    (line,) = [each for each in done.text("users.acl").splitlines() if each.startswith("user app ")]
    assert re.findall(r"#(\w+)", line) == [digest(own["redis_app_password"])]
    assert "APP_SECRET_KEY_FALLBACKS" not in done.env("app1/secrets.env")


def test_a_part_of_the_cluster_is_refused(tmp_path):
    hosts = write_inventory(tmp_path, inventory())
    done = ansible_playbook("-i", hosts, "playbooks/rotate_secrets.yml", "--limit", "lb1")
    assert done.returncode != 0
    assert "Run it without --limit and tags" in " ".join(done.stdout.split())
    assert not list(hosts.parent.glob(".secrets/*.new"))


def test_a_secret_of_the_inventorys_own_is_named_and_nothing_is_made_before_all_machines_are_reached(tmp_path):
    own = "q8Zr2LmW0vTn5XcBy7Kd"
    hosts = write_inventory(tmp_path, inventory(redis_app_password=own))
    (hosts.parent / ".secrets").mkdir()
    module.write(hosts.parent / ".secrets/redis_app_password", "made before the inventory had one\n")
    done = ansible_playbook("-i", hosts, "playbooks/rotate_secrets.yml")
    assert done.returncode != 0, "no machine is there"
    assert "The inventory itself defines redis_app_password:" in " ".join(done.stdout.split())
    assert own not in done.stdout
    assert not list(hosts.parent.glob(".secrets/*.new"))
