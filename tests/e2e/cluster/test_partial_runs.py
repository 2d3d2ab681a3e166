"""Runs for some hosts, some roles, or machines that were not made here touch what was named, and change nothing."""

import pytest
import yaml
from lib.cluster import changed

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
def test_a_limited_run_needs_no_facts_of_other_hosts(cluster, limit):
    """Only the hosts that were named are touched, and nothing changes on them."""
    output = cluster.converge("--limit", limit)
    named = {host for each in limit.split(",") for host in cluster.groups.get(each, [each])}
    assert set(changed(output)) == named
    assert set(changed(output).values()) == {0}, output


def test_machines_that_were_not_made_here_are_reached_over_ssh_alone(cluster, tmp_path):
    """The same machines, listed as production lists real ones: nothing changes, and no container is asked about."""
    ssh = cluster.inventory.parent / ".secrets" / "ssh"
    variables = LOCAL_LIMITS | {
        "ansible_user": "ops",
        "ansible_ssh_private_key_file": f"{ssh}/id_ed25519",
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={ssh}/known_hosts",
        "nginx_public_tls_port": cluster.variables[cluster.balancer]["local_nodes_https_port"],
        "nginx_server_names": [cluster.address[cluster.balancer], "localhost", "127.0.0.1"],
        "topology_secrets_dir": str(ssh.parent),
    }
    groups = {
        group: {"hosts": {host: {"ansible_host": cluster.address[host]} for host in hosts}}
        for group, hosts in cluster.groups.items()
    }
    groups["app"]["vars"] = {"firewall_extra_ports": cluster.extra_ports}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"vars": variables, "children": groups}}))
    output = cluster.converge(inventory=inventory)
    assert "TASK [local_nodes" not in output
    assert set(changed(output)) == set(cluster.address)
    assert set(changed(output).values()) == {0}, output
