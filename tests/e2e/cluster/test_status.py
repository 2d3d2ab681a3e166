"""What playbooks/status.yml and scripts/status tell about machines that are well, stopped, drained or away."""

import json
import subprocess

import pytest
from lib.cluster import ROOT, changed, eventually


def ask(cluster, *arguments):
    """Run scripts/status as a program would; return its exit status and the nodes by name, with all else."""
    command = [ROOT / "scripts/status", "-i", cluster.inventory, "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)  # nothing but JSON
    return done.returncode, {node["name"]: node for node in report["nodes"]}, report


@pytest.fixture
def undone(cluster):
    """Commands that put things right afterwards, by host."""
    commands = []
    yield lambda host, command: commands.append((host, command))
    for host, command in commands:
        cluster.run(host, command)
    for host in cluster.apps:
        assert eventually(lambda host=host: cluster.visitor().get(host, "/readyz").status_code == 200, seconds=30)


def test_a_cluster_that_is_well(cluster):
    """The table and the JSON say the same; nothing is changed, in check mode neither, and who logs in is counted."""
    cluster.log_in(cluster.balancer)
    done = cluster.playbook("playbooks/status.yml", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(changed(done.stdout).values()) == {0}
    assert "All is well." in done.stdout
    status, nodes, report = ask(cluster)
    assert (status, report["problems"]) == (0, [])
    assert nodes[cluster.redis]["sessions"] >= 1
    assert nodes[cluster.redis]["aof_enabled"]
    for host in (cluster.balancer, cluster.redis):
        assert 200 < nodes[host]["certificate_days"] <= 366 < nodes[host]["ca_days"]
    for host in cluster.apps:
        node = nodes[host]
        assert (node["state"], node["pending"]) == ("ready", [])
        assert node["balancers"][cluster.balancer]["in"]
        answer = cluster.visitor().get(host, "/readyz")
        assert (node["release"], node["run"]) == (answer.headers["X-Release"], answer.headers["X-Deployment"])
        row = [host, "app", cluster.address[host], "ready", "in", node["release"]]
        assert row in [line.split()[: len(row)] for line in done.stdout.splitlines()]


def test_limit_asks_only_who_is_named(cluster):
    status, nodes, _report = ask(cluster, "--limit", cluster.apps[0])
    assert (status, list(nodes)) == (0, [cluster.apps[0]])


def test_a_machine_that_is_away_and_an_app_that_is_stopped_are_told(cluster, undone):
    """One is told beside the others; and asking does not start what was stopped, though systemd holds its socket."""
    away, stopped = cluster.apps[:2]
    undone(away, "systemctl unmask --runtime ssh.socket ssh.service; systemctl start ssh")
    cluster.run(
        away, "systemctl mask --runtime --now ssh.socket ssh.service; pkill -x sshd || true; pkill sshd- || true"
    )
    undone(stopped, "systemctl start anynode.service")
    cluster.run(stopped, "systemctl stop anynode.service 2>&1")
    status, nodes, report = ask(cluster)
    assert status == 1
    assert nodes[away]["state"] == "unreachable"
    assert (nodes[stopped]["state"], nodes[stopped]["reason"]) == ("stopped", "anynode.service is inactive")
    assert nodes[cluster.redis]["state"] == "ready"
    assert len(report["problems"]) == 2
    assert cluster.run(stopped, "systemctl is-active anynode.service", check=False) == "inactive"


def test_a_redis_that_is_away_is_told_by_it_and_by_the_nodes(cluster, undone):
    undone(cluster.redis, "systemctl start redis-server")
    cluster.run(cluster.redis, "systemctl stop redis-server")
    status, nodes, _report = ask(cluster)
    assert status == 1
    assert nodes[cluster.redis]["state"] == "not ready"
    for host in cluster.apps:
        assert (nodes[host]["state"], nodes[host]["reason"]) == ("not ready", "session store unavailable")


def test_who_was_drained_is_out_on_purpose(cluster):
    """By whom and why, and no problem, though it is stopped."""
    host = cluster.apps[-1]
    try:
        done = cluster.playbook("playbooks/drain.yml", "-e", f"node={host}", "-e", "reason='new disk'")
        assert done.returncode == 0, done.stdout + done.stderr
        cluster.run(host, "systemctl stop anynode.service 2>&1")
        status, nodes, report = ask(cluster)
        place = nodes[host]["balancers"][cluster.balancer]
        assert (status, place["in"], place["kind"], place["reason"]) == (0, False, "drain", "new disk"), report
        assert "@" in place["by"]
    finally:
        cluster.run(host, "systemctl start anynode.service")
        done = cluster.playbook("playbooks/undrain.yml", "-e", f"node={host}")
        assert done.returncode == 0, done.stdout + done.stderr
