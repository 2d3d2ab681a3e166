"""Configuration of the roles during a rotation of secrets, and rotations that are refused."""

import hashlib
import re
from pathlib import Path

import pytest
from lib.ansible_runs import Cluster, ansible_playbook, inventory, render, write_inventory


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def passwords_digest(cluster: Cluster) -> str:
    (found,) = re.findall(r"^# (\w{64})$", cluster.text("app1/secrets.env"), re.MULTILINE)
    return str(found)


def test_during_a_rotation_any_deployment_accepts_both_values(tmp_path: Path) -> None:
    """As a run of site.yml between the steps renders them."""
    secrets = tmp_path / "inventory" / ".secrets"
    before = render(tmp_path, 1)
    alone = passwords_digest(before)
    for name, kind in (("redis_app_password", "new"), ("redis_admin_password", "old"), ("app_secret_key", "old")):
        write(secrets / f"{name}.{kind}", f"{kind}-{name}-that-is-long-enough\n")
    write(secrets / "app_secret_key.new", "")  # an empty file has no value
    hosts = tmp_path / "inventory" / "hosts.yml"
    done = ansible_playbook("-i", hosts, "tests/lib/render.yml", "-e", f"rendered={before.files}")
    assert done.returncode == 0, done.stdout
    _, admin, app = before.text("users.acl").splitlines()
    for line, name, kind in ((admin, "redis_admin_password", "old"), (app, "redis_app_password", "new")):
        accepted = {before.secrets[name], f"{kind}-{name}-that-is-long-enough"}
        assert set(re.findall(r"#(\w+)", line)) == {digest(secret) for secret in accepted}
    env = before.env("app1/secrets.env")
    assert env["APP_REDIS_PASSWORD"] == before.secrets["redis_app_password"]
    assert env["APP_SECRET_KEY"] == before.secrets["app_secret_key"]
    assert env["APP_SECRET_KEY_FALLBACKS"] == "old-app_secret_key-that-is-long-enough"
    # So a rolling update opens new connections before Redis closes old ones, even if all other settings are the same.
    assert passwords_digest(before) != alone


def test_files_of_an_interrupted_rotation_are_ignored_once_the_inventory_defines_the_secret(tmp_path: Path) -> None:
    own = {"redis_app_password": "q8Zr2LmW0vTn5XcBy7Kd", "app_secret_key": "q8Zr2LmW0vTn5XcBy7Kdq8Zr2LmW0vTn5XcBy7Kd"}
    secrets = tmp_path / "inventory" / ".secrets"
    for name in own:
        for suffix in ("", ".new", ".old"):
            write(secrets / (name + suffix), f"left-in-{name}{suffix}-that-is-long-enough\n")
    done = render(tmp_path, 1, **own)
    (line,) = [each for each in done.text("users.acl").splitlines() if each.startswith("user app ")]
    assert re.findall(r"#(\w+)", line) == [digest(own["redis_app_password"])]
    assert "APP_SECRET_KEY_FALLBACKS" not in done.env("app1/secrets.env")


@pytest.mark.parametrize("arguments", [("--limit", "lb1"), ("--limit", "app1"), ("--tags", "nginx")])
def test_a_partial_rotation_is_refused(tmp_path: Path, arguments: tuple[str, str]) -> None:
    hosts = write_inventory(tmp_path, inventory())
    done = ansible_playbook("-i", hosts, "playbooks/rotate_secrets.yml", *arguments)
    assert done.returncode != 0
    assert "Run the playbook without --limit and tags" in " ".join(done.stdout.split())
    assert not list(hosts.parent.glob(".secrets/*.new"))


def test_a_secret_of_the_inventory_is_named_and_none_is_staged_before_all_hosts_are_reachable(tmp_path: Path) -> None:
    own = "q8Zr2LmW0vTn5XcBy7Kd"
    hosts = write_inventory(tmp_path, inventory(redis_app_password=own))
    write(hosts.parent / ".secrets/redis_app_password", "created before the inventory defined it\n")
    done = ansible_playbook("-i", hosts, "playbooks/rotate_secrets.yml")
    assert done.returncode != 0, "no host exists"
    assert "redis_app_password: defined in the inventory, not rotated." in " ".join(done.stdout.split())
    assert own not in done.stdout
    assert not list(hosts.parent.glob(".secrets/*.new"))


def test_a_secret_that_does_not_exist_yet_is_named_with_the_command_that_creates_it(tmp_path: Path) -> None:
    """Reading a secret creates nothing."""
    hosts = write_inventory(tmp_path, inventory())
    done = ansible_playbook("-i", hosts, "playbooks/password.yml")
    assert done.returncode != 0
    output = " ".join(done.stdout.split())
    assert f"The secret {hosts.parent}/.secrets/app_demo_password doesn't exist yet." in output
    assert f"ansible-playbook -i {hosts} site.yml" in output
    assert not (hosts.parent / ".secrets").exists()
