"""The templates of the roles, rendered by Ansible with the topology, for clusters of several sizes."""

import ast
import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from anynode.config import Config
from lib.ansible_runs import ROOT, Cluster, render, tool
from lib.certificates import Authority
from lib.redis_server import ACL_COMMANDS
from lib.rendered_nginx import configuration
from werkzeug.security import check_password_hash

CONFIG_TEST = ROOT / "roles" / "redis" / "files" / "redis-config-test"
# By name: number of app nodes, and the form of addresses.
CLUSTERS = {
    "1 node": (1, "192.0.2.{}"),
    "2 nodes": (2, "192.0.2.{}"),
    "20 nodes": (20, "192.0.2.{}"),
    "IPv6": (2, "2001:db8::{}"),
}


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cluster]:
    """All clusters, by name; two are rendered at a time."""
    with ThreadPoolExecutor(2) as pool:
        jobs = {name: pool.submit(render, tmp_path_factory.mktemp("cluster"), *size) for name, size in CLUSTERS.items()}
    return {name: job.result() for name, job in jobs.items()}


@pytest.fixture(params=CLUSTERS)
def cluster(request: pytest.FixtureRequest, clusters: dict[str, Cluster]) -> Cluster:
    return clusters[request.param]


def run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def at_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def test_nginx_balances_all_app_nodes(cluster: Cluster) -> None:
    block = re.search(r"upstream app \{(.*?)\n    \}", cluster.text("nginx.conf"), re.DOTALL)
    assert block
    assert "include /etc/nginx/upstream.conf;" in block[1]
    servers = json.loads(cluster.text("upstream.json")).values()
    assert list(servers) == [at_port(address, 8000) for address in cluster.apps]
    assert re.search(r"^\s*zone app \d+k;", block[1], re.MULTILINE)
    assert re.search(r"^\s*keepalive \d+;", block[1], re.MULTILINE)


def test_nginx_accepts_its_configuration(cluster: Cluster, tmp_path: Path) -> None:
    nginx = tool("nginx", "nginx-light")
    done = run(nginx, "-t", "-c", configuration(tmp_path, cluster, json.loads(cluster.text("upstream.json"))))
    assert done.returncode == 0, done.stdout


def test_redis_accepts_its_configuration_if_its_certificate_exists(cluster: Cluster, tmp_path: Path) -> None:
    tool("redis-server", "redis-server")
    pair = Authority(tmp_path).issue("127.0.0.1")
    path = tmp_path / "redis.conf"
    text = cluster.text("redis.conf").replace("/etc/anynode/tls/ca.crt", str(pair.ca))
    path.write_text(text.replace("/etc/anynode/tls/redis", str(pair.key.with_suffix(""))))
    done = run("bash", CONFIG_TEST, path)
    assert done.returncode == 0, done.stdout
    pair.certificate.unlink()
    done = run("bash", CONFIG_TEST, path)
    assert done.returncode == 1
    assert "Failed to load certificate" in done.stdout


def test_redis_accepts_its_acl_users(cluster: Cluster) -> None:
    tool("redis-server", "redis-server")
    done = run("bash", CONFIG_TEST, "--aclfile", cluster.files / "users.acl")
    assert done.returncode == 0, done.stdout


def test_redis_evicts_no_session_and_writes_to_disk(cluster: Cluster) -> None:
    lines = cluster.text("redis.conf").splitlines()
    assert "maxmemory-policy noeviction" in lines
    assert "appendonly yes" in lines
    assert f"bind {cluster.addresses['redis1']} 127.0.0.1" in lines


def test_each_acl_user_has_a_password(cluster: Cluster) -> None:
    default, admin, app = cluster.text("users.acl").splitlines()
    assert default.startswith("user default off ")
    assert re.match(r"user admin on sanitize-payload #[0-9a-f]{64} ", admin)
    assert re.match(r"user app on sanitize-payload #[0-9a-f]{64} ~anynode:\* resetchannels -@all ", app)
    assert "nopass" not in cluster.text("users.acl")


def test_the_acl_user_of_the_app_has_the_commands_of_the_tests(cluster: Cluster) -> None:
    app = cluster.text("users.acl").splitlines()[2].split()
    assert set(ACL_COMMANDS.split()) == {each for each in app if each.startswith("+")}


def test_systemd_accepts_the_units(cluster: Cluster) -> None:
    analyze = tool("systemd-analyze", "systemd")
    units = [cluster.files / "app1" / f"anynode.{kind}" for kind in ("socket", "service")]
    done = run(analyze, "verify", "--man=no", *units)
    # It also reports other units of this computer.
    complaints = [line for line in done.stdout.splitlines() if "anynode" in line]
    assert complaints == []


def test_the_socket_listens_on_the_address_of_the_node(cluster: Cluster) -> None:
    for host in ("app1", f"app{len(cluster.apps)}"):
        listen = f"ListenStream={at_port(cluster.addresses[host], 8000)}"
        assert listen in cluster.text(f"{host}/anynode.socket").splitlines()


def test_gunicorn_keeps_connections_longer_than_nginx_and_trusts_no_proxy(cluster: Cluster) -> None:
    tree = ast.parse(cluster.text("app1/gunicorn.conf.py"))
    plain = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)]
    settings = {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in plain}
    assert settings["forwarded_allow_ips"] == ""
    kept = re.search(r"keepalive_timeout (\d+)s;", cluster.text("nginx.conf"))
    assert kept and settings["keepalive"] > int(kept[1])


def test_the_environment_names_node_release_redis_and_proxies(cluster: Cluster) -> None:
    for host in ("app1", f"app{len(cluster.apps)}"):
        env = cluster.env(f"{host}/app.env")
        assert env["APP_NODE"] == host
        assert env["APP_RELEASE"] == "1.2.3-0123456789ab"
        assert env["APP_REDIS_HOST"] == cluster.addresses["redis1"]
        assert env["APP_TRUSTED_PROXIES"] == cluster.addresses["lb1"]


def test_the_app_accepts_its_settings_which_are_its_defaults(cluster: Cluster) -> None:
    env = cluster.env("app1/app.env") | cluster.env("app1/secrets.env")
    assert env.pop("APP_REDIS_CA_FILE") == "/etc/anynode/tls/ca.crt"  # exists on hosts only
    of_the_node = ("APP_NODE", "APP_RELEASE", "APP_TRUSTED_PROXIES")
    required = ("APP_SECRET_KEY", "APP_USERS", "APP_REDIS_HOST", "APP_REDIS_PASSWORD")
    least = {name: env[name] for name in (*of_the_node, *required)}
    assert Config.from_environ(env) == Config.from_environ(least)
    assert Config.from_environ(env).cookie_secure
    assert {name for name in env if name.startswith("APP_LOGIN_")} == {
        f"APP_{each.name.upper()}" for each in fields(Config) if each.name.startswith("login_")
    }


def test_the_session_check_can_log_in(cluster: Cluster) -> None:
    users = json.loads(cluster.env("app1/secrets.env")["APP_USERS"])
    assert users.keys() == {"ada", "demo"}
    assert check_password_hash(users["demo"], cluster.secrets["app_demo_password"])
    assert users["demo"].startswith("scrypt:16384:8:5$"), "a setting of OWASP"
    assert check_password_hash(users["ada"], "correct horse")


def test_the_session_check_uses_the_balancer_and_every_node(cluster: Cluster) -> None:
    check = json.loads(cluster.text("check.json"))
    balancer = urlsplit(check["balancer"])
    assert (balancer.scheme, balancer.hostname, balancer.port) == ("https", "localhost", 18443)
    assert check["address"] == cluster.addresses["lb1"]
    assert list(check["nodes"].values()) == cluster.apps


def test_all_nodes_share_the_secrets(cluster: Cluster) -> None:
    last = f"app{len(cluster.apps)}"
    assert cluster.text("app1/secrets.env") == cluster.text(f"{last}/secrets.env")
    env = cluster.env("app1/secrets.env")
    assert env["APP_SECRET_KEY"] == cluster.secrets["app_secret_key"]
    assert env["APP_REDIS_PASSWORD"] == cluster.secrets["redis_app_password"]


def test_secrets_are_in_their_files_only(cluster: Cluster) -> None:
    assert len(cluster.secrets) == 5
    secret_files = ("secrets.env", "maintenance-bypass.conf")
    files = [path for path in cluster.files.rglob("*") if path.is_file() and path.name not in secret_files]
    assert len(files) >= 9
    for path in files:
        for name, secret in cluster.secrets.items():
            assert secret not in path.read_text(), f"{name} in {path.name}"


def test_every_file_has_the_notice_that_ansible_manages_it(cluster: Cluster) -> None:
    """Except users.acl, in which Redis refuses comments, and the .json files, which no role writes."""
    for path in cluster.files.rglob("*"):
        if path.is_file() and path.name not in ("users.acl", "check.json", "upstream.json"):
            opening = [line for line in path.read_text().splitlines() if not line.startswith("#!")][:3]
            assert any(re.match(r"# Ansible managed", line) for line in opening), path.name


def test_redis_refuses_comments_among_acl_users(cluster: Cluster, tmp_path: Path) -> None:
    tool("redis-server", "redis-server")
    commented = tmp_path / "users.acl"
    commented.write_text("# Ansible managed\n" + cluster.text("users.acl"))
    done = run("bash", CONFIG_TEST, "--aclfile", commented)
    assert done.returncode == 1
    assert "should start with user keyword" in done.stdout
