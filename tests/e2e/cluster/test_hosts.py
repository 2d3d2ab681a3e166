"""The hosts after a deployment."""

import json
import subprocess

from lib.cluster import Cluster


def test_no_unit_has_failed_and_the_services_start_at_boot(cluster: Cluster) -> None:
    """Every unit runs, and those of the services are enabled."""
    units = {cluster.balancer: "nginx", cluster.redis: "redis-server"}
    units |= {host: "anynode.socket anynode.service" for host in cluster.apps}
    for host, names in units.items():
        assert cluster.run(host, "systemctl is-system-running") == "running"
        assert set(cluster.run(host, f"systemctl is-active {names}").split()) == {"active"}
        assert set(cluster.run(host, f"systemctl is-enabled {names}").split()) <= {"enabled"}


def test_the_debian_release_is_that_of_the_inventory(cluster: Cluster) -> None:
    """A scenario for Debian 12 must not pass on Debian 13."""
    wanted = cluster.variables[cluster.redis].get("local_nodes_debian_release", "trixie")
    for host in cluster.address:
        assert f"VERSION_CODENAME={wanted}" in cluster.run(host, "cat /etc/os-release")


def test_all_nodes_run_the_same_release(cluster: Cluster) -> None:
    """One id: in the link, in the name of the directory and in the app's header."""
    ids = {
        cluster.run(host, "basename $(readlink /srv/anynode/current/release)").rsplit("-py")[0] for host in cluster.apps
    }
    ids |= {cluster.run(host, "cat /srv/anynode/current/release/RELEASE") for host in cluster.apps}
    ids |= {cluster.client().get(host, "/healthz").headers["X-Release"] for host in cluster.apps}
    assert len(ids) == 1


def test_gunicorn_is_new_enough_threaded_and_sandboxed(cluster: Cluster) -> None:
    """27.0.1 answers late requests on kept connections properly; gthread; not root; no way to gain privileges."""
    for host in cluster.apps:
        version = cluster.run(
            host, "cd /srv/anynode/current/release && python3 -c 'import gunicorn; print(gunicorn.__version__)'"
        )
        assert tuple(map(int, version.split("."))) >= (27, 0, 1)
        pid = cluster.run(host, "systemctl show --value --property MainPID anynode.service")
        status = cluster.run(host, f"cat /proc/{pid}/status")
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
        assert cluster.run(host, f"stat -c %U /proc/{pid}") == "anynode"
        assert "Using worker: SingleWriteWorker" in cluster.run(host, "journalctl -u anynode.service -o cat")


def test_only_the_balancer_publishes_ports_and_only_on_loopback(cluster: Cluster) -> None:
    for host in cluster.address:
        inspect = subprocess.run(["docker", "inspect", f"{cluster.prefix}-{host}"], capture_output=True, check=True)
        ports = json.loads(inspect.stdout)[0]["HostConfig"]["PortBindings"] or {}
        addresses = {binding["HostIp"] for bindings in ports.values() for binding in bindings}
        assert addresses == ({"127.0.0.1"} if host == cluster.balancer else set())
