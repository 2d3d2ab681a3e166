"""Invalid inventories and apps stop site.yml before it contacts a host; valid ones pass. Secrets are created once."""

import re
import stat
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from ansible.module_utils.anynode import renamed
from lib.ansible_runs import ROOT, ansible_playbook, inventory, write_app, write_inventory

SECRETS = {
    "app_demo_password",
    "app_secret_key",
    "nginx_maintenance_bypass_token",
    "redis_admin_password",
    "redis_app_password",
}
Done = CompletedProcess[str]


def plays(done: Done) -> list[str]:
    """Return the names of the plays that began."""
    return re.findall(r"^PLAY \[(.*?)\]", done.stdout, re.MULTILINE)


def words(done: Done) -> str:
    """Return the output with each run of white space as one space: Ansible wraps its messages."""
    return re.sub(r"\s+", " ", done.stdout)


def without(group: str) -> dict[str, Any]:
    content = inventory()
    del content["all"]["children"][group]
    return content


def refused(folder: Path, content: Any, *arguments: str) -> tuple[Path, Done]:
    """Run the real site.yml on an inventory that its first play must refuse; return the inventory and the result."""
    hosts = write_inventory(folder, content)
    done = ansible_playbook("-i", hosts, "site.yml", *arguments)
    assert done.returncode != 0, done.stdout
    assert len(plays(done)) == 1, done.stdout
    # No secret is created for an inventory that is refused.
    assert [path.name for path in hosts.parent.iterdir()] == ["hosts.yml"]
    return hosts, done


@pytest.mark.parametrize("content", ["", "all:\n  children: {nginx: , redis: , app: }\n"], ids=["text", "host"])
def test_an_inventory_without_a(tmp_path: Path, content: str) -> None:
    _, done = refused(tmp_path, content)
    assert "The inventory lists no host. Is its path right?" in words(done)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without("app"), "The group `app` is missing. Add it to the inventory, with at least one host."),
        (inventory(app_users={"ada": "hunter2"}), "the value of ada is not a hash. `make hash` prints one"),
        (inventory(cluster_drain_seconds=5), "was renamed: use `topology_drain_seconds`."),
        (inventory(app_threads="{{ undefined_number }}"), "`app_threads` can't be evaluated: 'undefined_number' is"),
        (
            inventory(ansible_become=True),
            "`ansible_become` (set for lb1, redis1, app1, app2) makes tasks on the controller",
        ),
    ],
    ids=["missing group", "plain password", "renamed option", "undefined variable", "sudo"],
)
def test_an_invalid_inventory(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    _, done = refused(tmp_path, content)
    assert "This inventory can't work. Nothing was changed." in done.stdout
    assert message in words(done)
    assert "hunter2" not in done.stdout


def test_two_inventories_with_secrets_of_their_own(tmp_path: Path) -> None:
    """The hosts of each would trust another CA."""
    other = inventory()
    one, two = tmp_path / "one", tmp_path / "two"
    nodes = other["all"]["children"].pop("app")
    for folder, content in ((one, other), (two, {"all": {"children": {"app": nodes}}})):
        folder.mkdir()
        write_inventory(folder, content)
    done = ansible_playbook("-i", one, "-i", two, "site.yml")
    assert done.returncode != 0
    assert "The hosts have several directories of secrets: " in words(done)
    assert "(lb1, redis1), " in words(done)
    assert "name the directory for all of them: -e topology_secrets_dir=" in words(done)
    assert not list(tmp_path.glob("*/.secrets"))


def test_errors_of_the_command_line(tmp_path: Path) -> None:
    """All of them at once: a misspelt option, wrong types, renamed variables and tags, and sudo for all tasks."""
    extra = ["redis_maxmemroy=1gb", "nginx_port=eighty", "nginx_login_paths=/login", "run_take_over=r1", "why=disk"]
    options = [each for pair in extra for each in ("-e", pair)]
    _, done = refused(tmp_path, inventory(), *options, "--tags", "check", "--become")
    on = "(set for lb1, redis1, app1, app2)"
    for message in (
        f"`redis_maxmemroy` {on} is not an option of any role. Did you mean `redis_maxmemory`?",
        f"`nginx_port` is 'eighty' {on}, expected a whole number from 1 to 65535. Correct it: TCP port of HTTP",
        f"`nginx_login_paths` is '/login' {on}, expected a list; on the command line, -e '{{\"nginx_login_paths\": [",
        "`--become` (or `become` in ansible.cfg or the environment) makes tasks on the controller use sudo, too.",
        f"`run_take_over` {on} was renamed: use `deploy_lock_take_over`.",
        f"`why` {on} was renamed: use `reason`.",
        "The tag `check` was renamed: use `--tags verify`.",
    ):
        assert message in words(done)


def test_values_are_checked_with_the_variables_of_each_host(tmp_path: Path) -> None:
    """A value may refer to the host's other variables, and to defaults of roles."""
    content = inventory(nginx_server_names="{{ [topology_address, site] }}", site="shop.example")
    content["all"]["children"]["app"]["hosts"]["app2"] |= {"site": "a b", "app_threads": "{{ site }}"}
    _, done = refused(tmp_path, content)
    assert "nginx_server_names has 'a b', which is neither a DNS name nor an IP address." in words(done)
    assert "`app_threads` is 'a b' (set for app2), expected a whole number" in words(done)
    assert "shop.example" not in done.stdout


def test_a_secret_that_can_be_guessed_is_not_shown(tmp_path: Path) -> None:
    _, done = refused(tmp_path, inventory(redis_app_password="hunter2"), "-vvv")
    assert "The secret `redis_app_password` (set for lb1, redis1, app1, app2) has 7 characters; it needs 16." in words(
        done
    )
    assert "hunter2" not in done.stdout


@pytest.mark.parametrize(("old", "new"), renamed.PLAYBOOKS.items())
def test_a_renamed_playbook_is_refused_with_its_new_name(tmp_path: Path, old: str, new: str) -> None:
    assert (ROOT / new).exists()
    done = ansible_playbook("-i", write_inventory(tmp_path, inventory()), old)
    assert done.returncode != 0
    assert f"{old} was renamed: use {new}." in words(done)


def local(**hosts: str) -> dict[str, Any]:
    """Return a valid inventory of local hosts, with these Debian releases or the default one."""
    content = inventory(local_nodes_subnet="192.0.2.0/24")
    content["all"]["children"]["local_nodes"] = {"children": {"nginx": None, "redis": None, "app": None}}
    for host, release in hosts.items():
        content["all"]["children"]["app"]["hosts"][host]["local_nodes_debian_release"] = release
    return content


class App:
    """A tiny app and an inventory; runs playbooks with both."""

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.source, self._environment = write_app(folder)
        self._hosts = write_inventory(folder, content)
        self.builds, self.secrets = folder / "builds", self._hosts.parent / ".secrets"

    def run(self, playbook: str, *arguments: str) -> Done:
        options = ["-e", f"app_source_dir={self.source}", "-e", f"app_build_dir={self.builds}"]
        return ansible_playbook("-i", self._hosts, playbook, *options, *arguments, **self._environment)

    def pythons(self) -> set[str]:
        """Return the versions of Python that releases were built for."""
        matches = [
            re.fullmatch(r"2\.5-[0-9a-f]{12}-py(3\.\d+)-\w+\.tar\.gz", path.name) for path in self.builds.iterdir()
        ]
        assert all(matches)
        return {match[1] for match in matches if match}


@pytest.fixture
def content() -> dict[str, Any]:
    return inventory()


@pytest.fixture
def app(tmp_path: Path, content: dict[str, Any]) -> App:
    return App(tmp_path, content)


def wrong_hash(text: str) -> str:
    return re.sub(r"sha256:\w{8}", "sha256:00000000", text)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("src/shop/__init__.py", lambda text: text + "def broken(:\n", r"shop/__init__\.py, line 3: "),
        (
            "requirements.lock",
            lambda text: text + "flask==3.1.3\n",
            r"requirements\.lock: flask==3\.1\.3 is not pinned with a hash\. Run `make lock`\.",
        ),
        (
            "requirements.lock",
            wrong_hash,
            r"THESE PACKAGES DO NOT MATCH THE HASHES.*tiny==1\.0.*Expected sha256 00000000",
        ),
    ],
    ids=["syntax error", "package without a hash", "package with a wrong hash"],
)
def test_an_app_that_cannot_be_built(app: App, file: str, change: Callable[[str], str], message: str) -> None:
    path = app.source / file
    path.write_text(change(path.read_text()))
    done = app.run("site.yml")
    assert done.returncode != 0, done.stdout
    assert len(plays(done)) == 1, done.stdout
    assert re.search("The release can't be built.*" + message, words(done)), done.stdout
    assert not app.builds.exists()


def test_a_valid_inventory_passes_twice_and_secrets_are_created_once(app: App) -> None:
    # In check mode, too: templates need values.
    first = app.run("playbooks/internal/validate.yml", "-vvv", "--check")
    assert first.returncode == 0, first.stdout
    created = {path.name: path.read_text() for path in app.secrets.iterdir()}
    assert created.keys() == SECRETS | {"cluster_id"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in app.secrets.iterdir()} == {0o600}
    assert stat.S_IMODE(app.secrets.stat().st_mode) == 0o700

    # With --limit, the whole inventory is validated all the same.
    second = app.run("playbooks/internal/validate.yml", "--limit", "app1", "-vvv")
    assert second.returncode == 0, second.stdout
    # Real hosts run Debian 12 or 13: which of them isn't known before they are contacted.
    assert app.pythons() == {"3.11", "3.13"}
    assert {path.name: path.read_text() for path in app.secrets.iterdir()} == created
    for name, secret in created.items():
        assert secret.strip() not in first.stdout + second.stdout, name


def test_a_secret_of_the_inventory_gets_no_file(tmp_path: Path) -> None:
    hosts = write_inventory(tmp_path, inventory(redis_app_password="q8Zr2LmW0vTn5XcBy7Kd"))
    done = ansible_playbook("-i", hosts, "playbooks/internal/validate.yml", "-e", "preflight_build=false")
    assert done.returncode == 0, done.stdout
    assert {path.name for path in (hosts.parent / ".secrets").iterdir()} == SECRETS - {"redis_app_password"} | {
        "cluster_id"
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [(local(), {"3.13"}), (local(app1="bookworm", app2="trixie"), {"3.11", "3.13"})],
    ids=["default", "mixed"],
)
def test_the_release_is_built_for_the_debian_release_of_local_hosts(app: App, expected: set[str]) -> None:
    done = app.run("playbooks/internal/validate.yml")
    assert done.returncode == 0, done.stdout
    assert app.pythons() == expected
