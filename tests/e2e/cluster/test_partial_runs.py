"""Runs with --limit, and runs on hosts that Anynode did not create, change nothing on a deployed cluster.

molecule runs these tests after tests/e2e/repair: they also show that the repairs are complete.
"""

from pathlib import Path

import pytest
import yaml
from lib.cluster import Cluster
from lib.deployments import completed_operations

# roles/topology/defaults has these for hosts in the group local_nodes.
LOCAL_LIMITS = {
    "nginx_requests_per_second": 5000,
    "nginx_requests_burst": 5000,
    "nginx_logins_per_minute": 6000,
    "nginx_logins_burst": 500,
    "nginx_connections_per_client": 2000,
    "firewall_connections_per_client": 10000,
    "nginx_hsts_seconds": 0,
}


@pytest.mark.parametrize("limit", ["app2", "nginx,redis"])
def test_a_limited_run_needs_no_facts_of_other_hosts(cluster: Cluster, limit: str) -> None:
    """It reaches only the named hosts. It changes nothing, and so writes nothing to the audit log."""
    before = completed_operations(cluster)
    run = cluster.converge("--limit", limit)
    named = {host for each in limit.split(",") for host in cluster.groups.get(each, [each])}
    assert set(run.changed) == named
    assert run.idempotent, run.output
    assert completed_operations(cluster) == before


def production_inventory(cluster: Cluster, folder: Path, **variables: object) -> Path:
    """Write an inventory of the same hosts as one of production: no container is queried."""
    ssh = cluster.inventory.parent / ".secrets" / "ssh"
    variables = LOCAL_LIMITS | {
        "ansible_user": "ops",
        "ansible_ssh_private_key_file": f"{ssh}/id_ed25519",
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={ssh}/known_hosts",
        "nginx_public_tls_port": cluster.variables[cluster.balancer]["local_nodes_https_port"],
        "nginx_server_names": [cluster.address[cluster.balancer], "localhost", "127.0.0.1"],
        **variables,
    }
    groups = {
        group: {"hosts": {host: {"ansible_host": cluster.address[host]} for host in hosts}}
        for group, hosts in cluster.groups.items()
    }
    groups["app"]["vars"] = {"firewall_extra_ports": cluster.extra_ports}
    inventory = folder / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"vars": variables, "children": groups}}))
    return inventory


def test_check_mode_on_hosts_that_were_not_created_here_reports_no_change_and_no_secret(
    cluster: Cluster, tmp_path: Path
) -> None:
    """With --diff -vvv, on the controller as well as in the logs of the nodes."""
    inventory = production_inventory(cluster, tmp_path, topology_secrets_dir=str(cluster.inventory.parent / ".secrets"))
    run = cluster.converge("--check", "--diff", "-vvv", inventory=inventory)
    assert "local_nodes" not in run.roles
    assert set(run.changed) == set(cluster.address)
    assert run.idempotent, run.output
    assert [name for name, line in cluster.secrets().items() if line in run.output] == []


def test_a_clone_without_its_secrets_takes_no_cluster_over(cluster: Cluster, tmp_path: Path) -> None:
    """It would have a new CA and new passwords. Nothing is changed, though the new secrets were created."""
    run = cluster.playbook("site.yml", inventory=production_inventory(cluster, tmp_path))
    assert not run.ok
    assert sum(run.changed.values()) == 1  # the secrets on the controller
    assert "belong to the cluster of the inventory `inventory`, last changed by " in run.words
    assert all(host in run.words for host in cluster.address)
    assert "get the directory `.secrets` from the operator of these hosts" in run.words
