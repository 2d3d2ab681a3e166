"""Redis: durability, access control, and answers to clients while it is unavailable."""

import time
from collections.abc import Iterator
from functools import partial

import pytest
import yaml
from lib.acl import FORBIDDEN, REFUSALS, UNRESTRICTED, allowed, replies
from lib.cluster import ROOT, Client, Cluster, eventually

TLS = "--tls --cacert /etc/anynode/tls/ca.crt"
APP_COMMANDS = yaml.safe_load((ROOT / "roles/redis/defaults/main.yml").read_text())["redis_app_commands"]


def redis_cli(
    cluster: Cluster, user: str, arguments: str, lines: str = "", connection: str = TLS, password: str | None = None
) -> str:
    """Run redis-cli on the host of Redis; return its output, including errors."""
    password = password or cluster.secret(f"redis_{user}_password")
    command = f"REDISCLI_AUTH={password} redis-cli {connection} --no-auth-warning --user {user} {arguments} 2>&1"
    return cluster.run(cluster.redis, f"{command} <<'END'\n{lines}\nEND", check=False)


def admin(cluster: Cluster, *words: str) -> str:
    """Run a Redis command as the ACL user of operators."""
    return redis_cli(cluster, "admin", *words)


def serves(client: Client, host: str) -> bool:
    """Return whether all processes of a node serve.

    Each process detects within a second that Redis is available again, and a single process may answer many requests in
    a row. So no request may fail for longer than that.
    """
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        if client.get(host).status_code != 200:
            return False
    return True


def test_redis_is_configured_to_keep_sessions(cluster: Cluster) -> None:
    """Writes are in the append-only file within a second, and no key is evicted."""
    assert admin(cluster, "config get appendonly").split()[1] == "yes"
    assert admin(cluster, "config get appendfsync").split()[1] == "everysec"
    assert admin(cluster, "config get maxmemory-policy").split()[1] == "noeviction"
    assert int(admin(cluster, "config get maxmemory").split()[1]) == 256 * 2**20
    # Loading the data may take minutes.
    assert cluster.run(cluster.redis, "systemctl show --value -p TimeoutStartUSec redis-server") == "infinity"


def test_sessions_survive_a_crash_of_redis(cluster: Cluster) -> None:
    """systemd starts it again, and writes acknowledged more than a second before are kept."""
    client = cluster.log_in(cluster.apps[0])
    assert client.post(cluster.apps[0], "/api/counter").json()["counter"] == 1
    time.sleep(1.5)
    cluster.run(cluster.redis, "systemctl kill --signal KILL redis-server")
    assert eventually(lambda: serves(client, cluster.apps[1]))
    assert client.get(cluster.apps[1]).json()["counter"] == 1


def test_the_sandbox_of_debians_unit_is_kept(cluster: Cluster) -> None:
    """Anynode's drop-in adds to it and removes nothing."""
    shown = cluster.run(cluster.redis, "systemctl show redis-server -p ProtectSystem -p NoNewPrivileges -p ProtectHome")
    assert "ProtectHome=yes" in shown
    assert "NoNewPrivileges=yes" in shown
    assert "ProtectSystem=" in shown and "ProtectSystem=no" not in shown


def test_the_acl_user_of_the_app_may_run_only_the_listed_commands(cluster: Cluster) -> None:
    """Each command that this server has is tested with ACL DRYRUN."""
    found = allowed(lambda *words: admin(cluster, *words), "app", "anynode:x")
    assert found == set(APP_COMMANDS) | UNRESTRICTED


def test_forbidden_commands_of_the_app_are_refused(cluster: Cluster) -> None:
    """In real connections; a permitted command succeeds, so the password is valid."""
    *refused, own = replies(redis_cli(cluster, "app", "", lines=FORBIDDEN + "exists anynode:x"))
    assert [line for line in refused if not line.startswith(REFUSALS)] == []
    assert (len(refused), own) == (FORBIDDEN.count("\n"), "0")


def test_redis_requires_tls_and_a_password(cluster: Cluster) -> None:
    """The default user is disabled; a wrong password, plain text and old TLS are refused."""
    assert cluster.run(cluster.redis, f"redis-cli {TLS} ping", check=False).startswith("NOAUTH")
    assert "WRONGPASS" in redis_cli(cluster, "app", "ping", password="wrong")
    assert "PONG" not in redis_cli(cluster, "admin", "ping", connection="")
    assert redis_cli(cluster, "admin", "ping") == "PONG"
    connect = "echo | openssl s_client -connect 127.0.0.1:6379 -cipher ALL:@SECLEVEL=0 2>&1"
    assert "Cipher is (NONE)" in cluster.run(cluster.redis, f"{connect} -tls1_1 ", check=False)
    assert "Cipher is (NONE)" not in cluster.run(cluster.redis, f"{connect} -tls1_2", check=False)


@pytest.fixture(params=["stopped", "silent"])
def without_redis(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Client]:
    """Redis refuses connections, or drops packets; available again at the end of the test. Yields a client."""
    table = "inet test_silence"
    if request.param == "stopped":
        down, up = "systemctl stop redis-server", "systemctl start redis-server"
    else:
        chain = "{ chain input { type filter hook input priority -10; tcp dport 6379 drop; }; }"
        down, up = f"nft 'table {table} {chain}'", f"nft delete table {table}"
    client = cluster.log_in(cluster.apps[0])
    assert client.post(cluster.apps[0], "/api/counter").json()["counter"] == 1
    cluster.run(cluster.redis, down)
    try:
        yield client
    finally:
        cluster.run(cluster.redis, up)
    for host in cluster.http_hosts:
        assert eventually(partial(serves, client, host)), f"{host} does not recover"
        assert client.get(host).json()["counter"] == 1


def test_without_redis_requests_fail_fast_and_sessions_remain(cluster: Cluster, without_redis: Client) -> None:
    """503 with Retry-After within a second, on every node and through the balancer; nodes are alive, but not ready."""
    for host in cluster.http_hosts:
        began = time.monotonic()
        answer = without_redis.get(host)
        assert time.monotonic() - began < 1, f"{host} took {time.monotonic() - began:.2f} s"
        assert answer.status_code == 503, f"{host}: {answer.status_code} {answer.text}"
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["X-Node"] in cluster.apps, "the app must answer, not the balancer"
        assert answer.json()["request_id"]
        assert cluster.client().post(host, "/api/login", cluster.account).status_code == 503
        assert cluster.client().get(host, "/healthz").status_code == 200
        assert cluster.client().get(host, "/readyz").status_code == 503
