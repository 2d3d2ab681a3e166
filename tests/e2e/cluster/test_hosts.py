"""The machines, as the roles left them."""

import json
import subprocess

from lib.cluster import changed


def test_systemd_is_content_and_the_services_come_back_at_boot(cluster):
    """Every unit runs, and the ones that matter are enabled."""
    units = {cluster.balancer: "nginx", cluster.redis: "redis-server"}
    units |= {host: "anynode.socket anynode.service" for host in cluster.apps}
    for host, names in units.items():
        assert cluster.run(host, "systemctl is-system-running") == "running"
        assert set(cluster.run(host, f"systemctl is-active {names}").split()) == {"active"}
        assert set(cluster.run(host, f"systemctl is-enabled {names}").split()) <= {"enabled"}


def test_the_debian_release_is_the_one_of_the_inventory(cluster):
    """A scenario for Debian 12 must not pass on Debian 13."""
    wanted = cluster.variables[cluster.redis].get("local_nodes_debian_release", "trixie")
    for host in cluster.address:
        assert f"VERSION_CODENAME={wanted}" in cluster.run(host, "cat /etc/os-release")


def test_all_nodes_run_one_release(cluster):
    """One id, in the link, in the directory's name and in what the app says."""
    ids = {
        cluster.run(host, "basename $(readlink /srv/anynode/current/release)").rsplit("-py")[0] for host in cluster.apps
    }
    ids |= {cluster.run(host, "cat /srv/anynode/current/release/RELEASE") for host in cluster.apps}
    ids |= {cluster.visitor().get(host, "/healthz").headers["X-Release"] for host in cluster.apps}
    assert len(ids) == 1


def test_gunicorn_is_new_enough_threaded_and_sandboxed(cluster):
    """27.0.1 answers late requests on kept connections properly; gthread; not root; no way to gain rights."""
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
        assert "Using worker: WholeAnswersWorker" in cluster.run(host, "journalctl -u anynode.service -o cat")


def test_a_page_of_the_browser_is_reached_on_loopback_only(cluster):
    """Of all machines, only the balancer publishes a port, and only on 127.0.0.1."""
    for host in cluster.address:
        inspect = subprocess.run(["docker", "inspect", f"{cluster.prefix}-{host}"], capture_output=True, check=True)
        ports = json.loads(inspect.stdout)[0]["HostConfig"]["PortBindings"] or {}
        addresses = {binding["HostIp"] for bindings in ports.values() for binding in bindings}
        assert addresses == ({"127.0.0.1"} if host == cluster.balancer else set())


def test_a_second_run_in_check_mode_reports_no_change_and_shows_no_secret(cluster):
    """Also with --diff and three times -v, on the controller as well as in what the nodes log."""
    output = cluster.converge("--check", "--diff", "-vvv")
    assert set(changed(output)) >= set(cluster.address)
    assert set(changed(output).values()) == {0}, output
    assert [name for name, line in cluster.secrets().items() if line in output] == []
