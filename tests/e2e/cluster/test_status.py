"""Reports of playbooks/status.yml and scripts/status about healthy, stopped and unreachable hosts.

A drained node is in tests/e2e/operations/test_drain.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lib.cluster import ROOT, Cluster

Nodes = dict[str, dict[str, Any]]


def status(cluster: Cluster, *arguments: str) -> tuple[int, Nodes, dict[str, Any]]:
    """Run scripts/status as a program would; return its exit status, the hosts by name, and the report."""
    command = [str(ROOT / "scripts/status"), "-i", str(cluster.inventory), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)  # nothing but JSON
    return done.returncode, {node["name"]: node for node in report["nodes"]}, report


@pytest.fixture
def afterwards(cluster: Cluster) -> Iterator[Callable[[str, str], None]]:
    """Take commands that restore a host at the end of the test: afterwards(host, command)."""
    commands = []
    yield lambda host, command: commands.append((host, command))
    for host, command in commands:
        cluster.run(host, command)
    for host in cluster.apps:
        assert cluster.becomes_ready(host, seconds=30)


def test_a_healthy_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """Table and JSON have the same content. Nothing is changed, and check mode reports the same."""
    cluster.log_in(cluster.balancer)
    file = tmp_path / "report.json"
    run = cluster.playbook("playbooks/status.yml", "--check", "-e", f"status_json={file}")
    assert run.ok, run.output
    assert run.idempotent
    assert "No problems." in run.output
    report = json.loads(file.read_text())
    nodes: Nodes = {node["name"]: node for node in report["nodes"]}
    assert report["problems"] == []
    assert nodes[cluster.redis]["sessions"] >= 1
    assert nodes[cluster.redis]["aof_enabled"]
    for host in (cluster.balancer, cluster.redis):
        assert 200 < nodes[host]["certificate_days"] <= 366 < nodes[host]["ca_days"]
    for host in cluster.apps:
        node = nodes[host]
        assert (node["state"], node["pending"]) == ("ready", [])
        assert node["balancers"][cluster.balancer]["active"]
        answer = cluster.client().get(host, "/readyz")
        assert (node["release"], node["deployment"]) == (answer.headers["X-Release"], answer.headers["X-Deployment"])
        row = [host, "app", cluster.address[host], "ready"]
        (cells,) = [line.split() for line in run.output.splitlines() if line.split()[:4] == row]
        assert node["release"] in cells


def test_an_unreachable_host_and_a_stopped_app(cluster: Cluster, afterwards: Callable[[str, str], None]) -> None:
    """Both are reported beside the other hosts. The query does not start the stopped app through its socket."""
    unreachable, stopped = cluster.apps[:2]
    afterwards(unreachable, "systemctl unmask --runtime ssh.socket ssh.service; systemctl start ssh")
    mask = "systemctl mask --runtime --now ssh.socket ssh.service; pkill -x sshd || true; pkill sshd- || true"
    cluster.run(unreachable, mask)
    afterwards(stopped, "systemctl start anynode.service")
    cluster.run(stopped, "systemctl stop anynode.service 2>&1")
    exit_status, nodes, report = status(cluster)
    assert exit_status == 1
    assert nodes[unreachable]["state"] == "unreachable"
    assert (nodes[stopped]["state"], nodes[stopped]["reason"]) == ("stopped", "anynode.service is inactive")
    assert nodes[cluster.redis]["state"] == "ready"
    assert len(report["problems"]) == 2
    assert cluster.run(stopped, "systemctl is-active anynode.service", check=False) == "inactive"


def test_a_stopped_redis_is_reported_by_itself_and_by_the_nodes(
    cluster: Cluster, afterwards: Callable[[str, str], None]
) -> None:
    """With --limit, only the named hosts are queried."""
    node = cluster.apps[0]
    afterwards(cluster.redis, "systemctl start redis-server")
    cluster.run(cluster.redis, "systemctl stop redis-server")
    exit_status, nodes, _report = status(cluster, "--limit", f"{cluster.redis},{node}")
    assert exit_status == 1
    assert set(nodes) == {cluster.redis, node}
    assert nodes[cluster.redis]["state"] == "not ready"
    assert (nodes[node]["state"], nodes[node]["reason"]) == ("not ready", "session store unavailable")
