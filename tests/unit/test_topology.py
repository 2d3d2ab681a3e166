"""Addresses, public names and the firewall's ports, computed from the inventory's groups."""

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from lib.ansible_runs import ROOT, load_module

topology = load_module("plugins/filter/topology.py")

GROUPS = {"nginx": ["lb1", "lb2"], "redis": ["redis1"], "app": ["app1", "app2"]}
ADDRESSES = {
    "lb1": "192.0.2.10",
    "lb2": "192.0.2.11",
    "redis1": "192.0.2.20",
    "app1": "2001:db8::31",
    "app2": "192.0.2.32",
}
FLOWS = [
    {"from": "anywhere", "to": ["nginx", "redis", "app"], "port": "ssh", "protocol": "tcp"},
    {"from": "anywhere", "to": ["nginx"], "port": 443, "protocol": "tcp", "limited": True},
    {"from": "app", "to": ["redis"], "port": 6379, "protocol": "tcp"},
    {"from": "nginx", "to": ["app"], "port": 8000, "protocol": "tcp"},
]


def ports(*host_groups: str) -> list[tuple[int, list[str], bool]]:
    found = topology.firewall_ports(FLOWS, host_groups, GROUPS, ADDRESSES)
    return [(port["port"], port["sources"], port["limited"]) for port in found]


def test_a_balancer_is_reachable_from_anywhere_with_limited_connections() -> None:
    assert ports("nginx", "local_nodes") == [(443, ["0.0.0.0/0", "::/0"], True)]


def test_redis_is_reachable_from_every_app_node() -> None:
    assert ports("redis") == [(6379, ["2001:db8::31", "192.0.2.32"], False)]


def test_an_app_node_is_reachable_from_every_balancer() -> None:
    assert ports("app") == [(8000, ["192.0.2.10", "192.0.2.11"], False)]


def test_a_host_of_two_groups_opens_the_ports_of_both() -> None:
    assert [port for port, _, _ in ports("redis", "app")] == [6379, 8000]


def test_the_address_of_the_inventory_wins_over_the_ssh_address() -> None:
    hostvars = {
        "app1": {"ansible_host": "198.51.100.1", "topology_address": "192.0.2.31"},
        "app2": {"ansible_host": "192.0.2.32"},
    }
    assert topology.host_addresses(hostvars, hostvars) == {"app1": "192.0.2.31", "app2": "192.0.2.32"}


def test_endpoints_of_ipv6_have_brackets() -> None:
    expected = {"app1": "[2001:db8::31]:8000", "app2": "192.0.2.32:8000"}
    assert topology.endpoints(["app1", "app2"], ADDRESSES, 8000) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("shop.example", "shop.example"), ("*.shop.example", "www.shop.example"), ("2001:db8::1", "[2001:db8::1]")],
)
def test_public_names_can_stand_in_a_url(name: str, expected: str) -> None:
    assert topology.public_names([name]) == [expected]


def test_the_default_flows_name_a_port_for_each_group() -> None:
    flows = topology.default_flows()
    assert {group for flow in flows for group in flow["to"]} == set(GROUPS)
    assert {flow["port"] for flow in flows} == {22, 80, 443, 6379, 8000}


def test_the_documentation_contains_the_table_of_flows() -> None:
    """`python plugins/filter/topology.py flows` prints it."""
    table = topology.flow_table(topology.default_flows())
    assert [page for page in (ROOT / "docs").rglob("*.md") if table in page.read_text()]


def test_the_drained_nodes_of_all_balancers_reach_the_role_app() -> None:
    """As the fact that remove_left_nodes.yml and undrain.yml set; a balancer that was not queried has none."""
    for name in ("internal/remove_left_nodes.yml", "undrain.yml"):
        assert "        nginx_drained_nodes: " in (ROOT / "playbooks" / name).read_text()
    defaults = yaml.safe_load((ROOT / "roles/topology/defaults/main/app.yml").read_text())
    hostvars = {
        "lb1": {"nginx_drained_nodes": {"app1": {"kind": "drain"}}},
        "lb2": {"nginx_drained_nodes": {"app2": {"kind": "deployment"}}},
        "lb3": {},
    }
    templar = Templar(loader=DataLoader(), variables={"groups": {"nginx": list(hostvars)}, "hostvars": hostvars})
    drained = templar.template(trust_as_template(defaults["app_drained_nodes"]))
    assert drained == {"app1": {"kind": "drain"}, "app2": {"kind": "deployment"}}


def test_containers_with_the_address_of_another_host() -> None:
    """app2 was renamed to web2; app1 and redis1 swapped their addresses; the address of lb1 is new."""
    before = {"app1": "31", "app2": "32", "redis1": "20", "lb1": "10"}
    containers = {
        host: {"Name": f"anynode-{host}", "IPv4Address": f"10.77.0.{number}/24"} for host, number in before.items()
    }
    now = {"app1": "20", "web2": "32", "redis1": "31", "lb1": "11"}
    addresses = {host: f"10.77.0.{number}" for host, number in now.items()}
    misplaced = topology.misplaced_containers(containers, addresses, "anynode")
    assert misplaced == ["anynode-app1", "anynode-app2", "anynode-redis1"]
    assert topology.misplaced_containers({}, addresses, "anynode") == []
