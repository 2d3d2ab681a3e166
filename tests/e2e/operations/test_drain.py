"""A node is drained and its host rebooted, and no client notices."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from lib.cluster import ROOT, Cluster, eventually
from lib.deployments import drained
from lib.load_fixtures import Load


def test_a_drained_node_stays_drained_until_it_is_undrained(cluster: Cluster, unnoticed: Callable[..., Load]) -> None:
    """Across a reboot, and a run of site.yml that adds a node; the run and scripts/status report it, as no problem.

    By the inventory with two nodes at first, then by that with three.
    """
    two, node = cluster.of_size("two"), "app2"
    with unnoticed("a node is drained and rebooted"):
        run = two.playbook("playbooks/drain.yml", "-e", f"node={node}", "-e", "reason='new disk'")
        assert run.ok, run.output
        assert drained(two) == [node]
        two.run(node, "systemctl stop anynode.service 2>&1")
        command = [str(ROOT / "scripts/status"), "-i", str(two.inventory), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        nodes = {each["name"]: each for each in json.loads(done.stdout)["nodes"]}
        place = nodes[node]["balancers"][two.balancer]
        assert done.returncode == 0, done.stdout
        assert (place["active"], place["kind"], place["reason"]) == (False, "drain", "new disk")
        assert "@" in place["by"]
        subprocess.run(["docker", "restart", "--time", "30", f"{two.prefix}-{node}"], check=True)
        assert eventually(lambda: two.run(node, "systemctl is-active anynode", check=False) == "active", 60)
        run = cluster.converge()
        assert drained(cluster) == [node]
        assert "new disk" in run.output and "undrain.yml" in run.output
        run = cluster.playbook("playbooks/undrain.yml", "-e", f"node={node}")
        assert run.ok, run.output
    assert drained(cluster) == []
