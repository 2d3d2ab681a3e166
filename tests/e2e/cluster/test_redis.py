"""Redis: what it keeps, whom it lets in, and what visitors see when it is away."""

import time

import pytest
import yaml
from lib.acl import FORBIDDEN, REFUSALS, UNRESTRICTED, allowed, replies
from lib.cluster import ROOT, eventually

TLS = "--tls --cacert /etc/anynode/tls/ca.crt"
APP_COMMANDS = yaml.safe_load((ROOT / "roles/redis/defaults/main.yml").read_text())["redis_app_commands"]


def redis_cli(cluster, user, arguments, lines="", connection=TLS, password=None):
    """What redis-cli prints on Redis's machine, errors, too."""
    password = password or cluster.secret(f"redis_{user}_password")
    command = f"REDISCLI_AUTH={password} redis-cli {connection} --no-auth-warning --user {user} {arguments} 2>&1"
    return cluster.run(cluster.redis, f"{command} <<'END'\n{lines}\nEND", check=False)


def admin(cluster, command, lines=""):
    """Run a Redis command as the account of those who look after it."""
    return redis_cli(cluster, "admin", command, lines)


def serves(visitor, host):
    """Whether all processes of a node serve.

    Each finds out by itself, within a second, that Redis is back, and one of them may answer many requests in a row:
    so for longer than that no request may fail.
    """
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        if visitor.get(host).status_code != 200:
            return False
    return True


def test_redis_forgets_nobody(cluster):
    """Writes go to the append-only file within a second, and nothing is evicted."""
    assert admin(cluster, "config get appendonly").split()[1] == "yes"
    assert admin(cluster, "config get appendfsync").split()[1] == "everysec"
    assert admin(cluster, "config get maxmemory-policy").split()[1] == "noeviction"
    assert int(admin(cluster, "config get maxmemory").split()[1]) == 256 * 2**20


def test_sessions_outlive_the_death_of_redis(cluster):
    """systemd starts it again by itself, and what was acknowledged more than a second before is there."""
    visitor = cluster.log_in(cluster.apps[0])
    assert visitor.post(cluster.apps[0], "/api/counter").json()["counter"] == 1
    time.sleep(1.5)
    cluster.run(cluster.redis, "systemctl kill --signal KILL redis-server")
    assert eventually(lambda: serves(visitor, cluster.apps[1]))
    assert visitor.get(cluster.apps[1]).json()["counter"] == 1


def test_the_sandbox_of_debians_unit_is_kept(cluster):
    """Our drop-in adds to it and takes nothing away."""
    shown = cluster.run(cluster.redis, "systemctl show redis-server -p ProtectSystem -p NoNewPrivileges -p ProtectHome")
    assert "ProtectHome=yes" in shown
    assert "NoNewPrivileges=yes" in shown
    assert "ProtectSystem=" in shown and "ProtectSystem=no" not in shown


def test_the_apps_account_may_run_what_is_listed_and_nothing_else(cluster):
    """By the list of commands of this very server, each asked about."""
    found = allowed(lambda *words: admin(cluster, *words), "app", "anynode:x")
    assert found == set(APP_COMMANDS) | UNRESTRICTED


def test_the_apps_account_is_refused_in_earnest(cluster):
    """Not only on paper; and it may do its own work, so that this is not about a wrong password."""
    *refused, own = replies(redis_cli(cluster, "app", "", lines=FORBIDDEN + "exists anynode:x"))
    assert [line for line in refused if not line.startswith(REFUSALS)] == []
    assert (len(refused), own) == (FORBIDDEN.count("\n"), "0")


def test_nobody_gets_in_without_tls_and_a_password(cluster):
    """The default user is off, a wrong password is refused, and plain text is not spoken; nor is old TLS."""
    assert cluster.run(cluster.redis, f"redis-cli {TLS} ping", check=False).startswith("NOAUTH")
    assert "WRONGPASS" in redis_cli(cluster, "app", "ping", password="wrong")
    assert "PONG" not in redis_cli(cluster, "admin", "ping", connection="")
    assert redis_cli(cluster, "admin", "ping") == "PONG"
    connect = "echo | openssl s_client -connect 127.0.0.1:6379 -cipher ALL:@SECLEVEL=0 2>&1"
    assert "Cipher is (NONE)" in cluster.run(cluster.redis, f"{connect} -tls1_1 ", check=False)
    assert "Cipher is (NONE)" not in cluster.run(cluster.redis, f"{connect} -tls1_2", check=False)


@pytest.fixture(params=["stopped", "silent"])
def redis_away(cluster, request):
    """Redis refuses connections, or swallows what it is sent; put right afterwards."""
    table = "inet test_silence"
    if request.param == "stopped":
        down, up = "systemctl stop redis-server", "systemctl start redis-server"
    else:
        chain = "{ chain input { type filter hook input priority -10; tcp dport 6379 drop; }; }"
        down, up = f"nft 'table {table} {chain}'", f"nft delete table {table}"
    visitor = cluster.log_in(cluster.apps[0])
    assert visitor.post(cluster.apps[0], "/api/counter").json()["counter"] == 1
    cluster.run(cluster.redis, down)
    try:
        yield visitor
    finally:
        cluster.run(cluster.redis, up)
    for host in cluster.doors:
        assert eventually(lambda host=host: serves(visitor, host)), f"{host} does not recover by itself"
        assert visitor.get(host).json()["counter"] == 1


def test_redis_away_is_said_at_once_and_logs_nobody_in_or_out(cluster, redis_away):
    """503 with Retry-After within a second on every node and through the balancer; alive, but not ready."""
    for host in cluster.doors:
        began = time.monotonic()
        answer = redis_away.get(host)
        assert time.monotonic() - began < 1, f"{host} took {time.monotonic() - began:.2f} s"
        assert answer.status_code == 503, f"{host}: {answer.status_code} {answer.text}"
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["X-Node"] in cluster.apps, "the app must say it, not the balancer"
        assert answer.json()["request_id"]
        assert cluster.visitor().post(host, "/api/login", cluster.account).status_code == 503
        assert cluster.visitor().get(host, "/healthz").status_code == 200
        assert cluster.visitor().get(host, "/readyz").status_code == 503
