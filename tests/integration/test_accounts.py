"""The accounts of Redis, as the role writes them, in a Redis of this computer: who may run what."""

import os
import subprocess
import time

import pytest
import yaml
from lib.acl import ANYBODY, FORBIDDEN, REFUSALS, allowed, replies
from lib.ansible_runs import ROOT, render
from lib.redis_server import PROGRAMS, free_port

DEFAULTS = yaml.safe_load((ROOT / "roles/redis/defaults/main.yml").read_text())


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    return render(tmp_path_factory.mktemp("cluster"), 1)


@pytest.fixture(scope="module", params=PROGRAMS)
def redis_cli(request, rendered, tmp_path_factory):
    """Run redis-cli as an account: redis_cli(user, arguments, lines)."""
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    options += ["--aclfile", rendered.files / "users.acl"]
    process = subprocess.Popen([*PROGRAMS[request.param], *options], stdout=subprocess.DEVNULL)

    def ask(user, arguments, lines="", password=None):
        password = password or rendered.secrets[f"redis_{user}_password"]
        done = subprocess.run(
            ["redis-cli", "-p", str(port), "--no-auth-warning", "--user", user, *arguments.split()],
            input=lines,
            env=os.environ | {"REDISCLI_AUTH": password},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    while ask("admin", "ping") != "PONG":
        assert process.poll() is None
        time.sleep(0.02)
    yield ask
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize("user", ["app", "admin"])
def test_an_account_may_run_what_is_listed_and_nothing_else(redis_cli, user):
    found = allowed(lambda *words: redis_cli("admin", *words), user, "anynode:x")
    assert found == set(DEFAULTS[f"redis_{user}_commands"]) | ANYBODY


def test_what_is_forbidden_is_refused_in_earnest(redis_cli):
    *refused, own = replies(redis_cli("app", "", FORBIDDEN + "exists anynode:x"))
    assert [line for line in refused if not line.startswith(REFUSALS)] == []
    assert (len(refused), own) == (FORBIDDEN.count("\n"), "0")


def test_nobody_but_the_app_touches_a_key(redis_cli):
    assert redis_cli("app", "exists other:x").startswith("NOPERM")
    assert redis_cli("app", "exists anynode:x") == "0"
    assert redis_cli("admin", "exists anynode:x").startswith("NOPERM")


def test_a_server_that_has_read_the_file_is_told_nothing_new(redis_cli, rendered):
    """Or the first run after each start of Redis would report a change."""
    before = redis_cli("admin", "acl list")
    for line in rendered.text("users.acl").splitlines():
        _, name, rules = line.split(" ", 2)
        assert redis_cli("admin", f"acl setuser {name} reset {rules}") == "OK"
    assert redis_cli("admin", "acl list") == before
