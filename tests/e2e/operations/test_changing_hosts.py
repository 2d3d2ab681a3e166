"""Nodes are drained, rebooted, added and removed, and no visitor notices."""

import subprocess

from lib.cluster import Cluster, eventually
from lib.deployments import out, pids, runs


def test_a_node_is_drained_rebooted_and_put_back(cluster, unnoticed):
    """site.yml leaves it out, and says so; undrain.yml puts it back once it works."""
    node = cluster.apps[1]
    with unnoticed("a node is drained and rebooted"):
        done = cluster.playbook("playbooks/drain.yml", "-e", f"node={node}", "-e", "reason='new disk'")
        assert done.returncode == 0, done.stdout
        assert out(cluster) == [node]
        subprocess.run(["docker", "restart", "--time", "30", f"{cluster.prefix}-{node}"], check=True)
        assert eventually(lambda: cluster.run(node, "systemctl is-active anynode", check=False) == "active", 60)
        done = cluster.playbook("site.yml")
        assert done.returncode == 0, done.stdout
        assert out(cluster) == [node]
        assert "new disk" in done.stdout and "undrain.yml" in done.stdout
        done = cluster.playbook("playbooks/undrain.yml", "-e", f"node={node}")
        assert done.returncode == 0, done.stdout
    assert out(cluster) == []


def test_the_last_node_is_not_drained(cluster):
    """Nor is one that isn't there."""
    *others, last = cluster.apps
    for node in others:
        assert cluster.playbook("playbooks/drain.yml", "-e", f"node={node}").returncode == 0
    done = cluster.playbook("playbooks/drain.yml", "-e", f"node={last}")
    assert done.returncode != 0
    assert f"{last} is the last node that serves" in " ".join(done.stdout.split())
    for node in others:
        assert cluster.playbook("playbooks/undrain.yml", "-e", f"node={node}").returncode == 0
    done = cluster.playbook("playbooks/drain.yml", "-e", "node=app9")
    assert "app9 is not an app node" in " ".join(done.stdout.split())


def test_from_three_to_one_and_back_with_a_deploy_on_the_one(cluster, unnoticed, release):
    """With one node alone nobody can take over: systemd holds the socket, and visitors wait."""
    one = Cluster(cluster.inventory.with_name("one.yml"))
    with unnoticed("from 3 nodes to 1", requests=2000):
        cluster.converge(inventory=one.inventory)
    before = pids(one, "app1")
    with unnoticed("deploy on a single node", worst_wait=2):
        done = one.playbook("playbooks/deploy.yml", *release())
    assert done.returncode == 0, done.stdout
    assert pids(one, "app1") != before
    # It goes back to the project's own release, too, while it is still alone.
    with unnoticed("from 1 node to 3", worst_wait=2, requests=2000):
        cluster.converge()
    assert len(runs(cluster)) == 3
