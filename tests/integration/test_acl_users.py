"""The ACL users that the role renders, in a Redis on this computer: the commands that they may run."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import yaml
from lib.acl import FORBIDDEN, REFUSALS, UNRESTRICTED, allowed, replies
from lib.ansible_runs import ROOT, Cluster, render
from lib.redis_server import PROGRAMS, free_port

RedisCli = Callable[..., str]
DEFAULTS = yaml.safe_load((ROOT / "roles/redis/defaults/main.yml").read_text())


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    return render(tmp_path_factory.mktemp("cluster"), 1)


@pytest.fixture(scope="module", params=PROGRAMS)
def redis_cli(
    request: pytest.FixtureRequest, rendered: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisCli]:
    """Run redis-cli as an ACL user: redis_cli(user, arguments, lines)."""
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    options += ["--aclfile", str(rendered.files / "users.acl")]
    process = subprocess.Popen([*PROGRAMS[request.param], *options], stdout=subprocess.DEVNULL)

    def query(user: str, arguments: str, lines: str = "") -> str:
        password = rendered.secrets[f"redis_{user}_password"]
        done = subprocess.run(
            ["redis-cli", "-p", str(port), "--no-auth-warning", "--user", user, *arguments.split()],
            input=lines,
            env=os.environ | {"REDISCLI_AUTH": password},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    while query("admin", "ping") != "PONG":
        assert process.poll() is None
        time.sleep(0.02)
    yield query
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize("user", ["app", "admin"])
def test_a_user_may_run_the_listed_commands_and_no_others(redis_cli: RedisCli, user: str) -> None:
    found = allowed(lambda *words: redis_cli("admin", *words), user, "anynode:x")
    assert found == set(DEFAULTS[f"redis_{user}_commands"]) | UNRESTRICTED


def test_forbidden_commands_are_refused(redis_cli: RedisCli) -> None:
    *refused, own = replies(redis_cli("app", "", FORBIDDEN + "exists anynode:x"))
    assert [line for line in refused if not line.startswith(REFUSALS)] == []
    assert (len(refused), own) == (FORBIDDEN.count("\n"), "0")


def test_only_the_app_may_access_its_keys(redis_cli: RedisCli) -> None:
    assert redis_cli("app", "exists other:x").startswith("NOPERM")
    assert redis_cli("app", "exists anynode:x") == "0"
    assert redis_cli("admin", "exists anynode:x").startswith("NOPERM")


def test_applying_the_file_that_a_server_has_read_changes_nothing(redis_cli: RedisCli, rendered: Cluster) -> None:
    """Otherwise the first run after each start of Redis would report a change."""
    before = redis_cli("admin", "acl list")
    for line in rendered.text("users.acl").splitlines():
        _, name, rules = line.split(" ", 2)
        assert redis_cli("admin", f"acl setuser {name} reset {rules}") == "OK"
    assert redis_cli("admin", "acl list") == before
