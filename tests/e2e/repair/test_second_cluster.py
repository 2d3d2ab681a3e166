"""A second local cluster: a subnet or port that is in use is refused with the option to change; hosts may move."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from lib.cluster import Cluster

Write = Callable[..., Path]
HOSTS = {"nginx": "lb1", "redis": "redis1", "app": "app1"}


def containers(prefix: str) -> set[str]:
    """Return the names of a cluster's containers."""
    command = ["docker", "ps", "-a", "--filter", f"label=anynode.cluster={prefix}", "--format", "{{.Names}}"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.fixture(scope="module")
def second(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Write]:
    """Write the inventory of a second cluster, by subnet, HTTP port and hosts, whose addresses follow each other.

    Its hosts are removed after the last test.
    """
    path = tmp_path_factory.mktemp("second") / "hosts.yml"

    def write(subnet: str, port: int, hosts: Mapping[str, str] = HOSTS) -> Path:
        network = subnet.rsplit(".", 1)[0]
        lines = ["all:", "  children:"]
        for number, (group, host) in enumerate(hosts.items(), 200):
            lines.append(f"    {group}: {{hosts: {{{host}: {{ansible_host: {network}.{number}}}}}}}")
        lines.append("    local_nodes:")
        lines.append("      children: {nginx: , redis: , app: }")
        lines.append("      vars:")
        lines.append("        ansible_user: ops")
        lines.append("        local_nodes_prefix: anynode-other")
        lines.append(f"        local_nodes_subnet: {subnet}")
        lines.append(f"        local_nodes_http_port: {port}")
        lines.append("        local_nodes_https_port: 18499")
        path.write_text("\n".join(lines) + "\n")
        return path

    yield write
    run = cluster.playbook("playbooks/destroy.yml", "--skip-tags", "notest", inventory=path)
    assert run.ok, run.output
    assert not containers("anynode-other")
    networks = subprocess.run(
        ["docker", "network", "ls", "--format", "{{.Name}}"], capture_output=True, text=True, check=True
    )
    assert {cluster.prefix} == {cluster.prefix, "anynode-other"} & set(networks.stdout.split())
    assert containers(cluster.prefix), "removing the second cluster must not touch this one"


def refused(cluster: Cluster, inventory: Path) -> str:
    """Create the hosts of the second cluster, which must fail; return the message."""
    run = cluster.playbook("site.yml", "--tags", "local_nodes", inventory=inventory)
    assert not run.ok
    return run.words


def test_a_subnet_that_another_network_has_is_refused(cluster: Cluster, second: Write) -> None:
    message = refused(cluster, second(cluster.variables[cluster.redis]["local_nodes_subnet"], 18099))
    assert "set local_nodes_subnet" in message


@pytest.fixture
def bridge() -> Iterator[str]:
    """An interface of this computer with an address, unknown to the engine."""
    if os.geteuid() != 0:
        pytest.skip("creating an interface needs root")
    name = "anynode-test"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "10.99.0.1/24", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


def test_a_subnet_that_overlaps_with_an_interface_is_refused(cluster: Cluster, second: Write, bridge: str) -> None:
    """Docker would create the network all the same, and routing would be undefined."""
    message = refused(cluster, second("10.99.0.0/24", 18099))
    assert f"interface {bridge}" in message
    assert "set local_nodes_subnet" in message


def test_a_port_that_is_taken_is_refused(cluster: Cluster, second: Write) -> None:
    message = refused(cluster, second("10.99.0.0/24", cluster.variables[cluster.redis]["local_nodes_http_port"]))
    assert "set local_nodes_http_port" in message


def test_hosts_are_renamed_and_swap_addresses(cluster: Cluster, second: Write) -> None:
    """redis1 gets the address of app1, and that of redis1 is web1's, which was app1 before."""
    run = cluster.playbook("playbooks/local_nodes.yml", inventory=second("10.99.0.0/24", 18099))
    assert run.ok, run.output
    moved = second("10.99.0.0/24", 18099, {"nginx": "lb1", "app": "web1", "redis": "redis1"})
    run = cluster.playbook("playbooks/local_nodes.yml", inventory=moved)
    assert run.ok, run.output
    template = '{{(index .NetworkSettings.Networks "anynode-other").IPAddress}}'
    names = ["anynode-other-lb1", "anynode-other-web1", "anynode-other-redis1"]
    found = subprocess.run(
        ["docker", "inspect", "--format", template, *names], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["10.99.0.200", "10.99.0.201", "10.99.0.202"]
