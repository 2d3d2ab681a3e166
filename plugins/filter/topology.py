"""Addresses, names and network flows of the whole inventory, computed from its groups.

`python plugins/filter/topology.py flows` prints the table of flows in Markdown, with the default ports.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ANYWHERE = "anywhere"
EVERY_NETWORK = ["0.0.0.0/0", "::/0"]
SSH = "ssh"
SSH_PORT = 22
ROLE = Path(__file__).resolve().parents[2] / "roles" / "topology"


def host_addresses(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the address of each host, by name: topology_address if the inventory sets it, else ansible_host."""
    found = {}
    for host in hosts:
        variables = hostvars[host]
        found[host] = variables["topology_address"] if "topology_address" in variables else variables["ansible_host"]
    return found


def endpoints(hosts: Iterable[str], addresses: Mapping[str, str], port: int | str) -> dict[str, str]:
    """Return "address:port" of each host, by name; an IPv6 address stands in brackets."""
    return {host: f"{_bracketed(addresses[host])}:{port}" for host in hosts}


def misplaced_containers(
    containers: Mapping[str, Mapping[str, str]], addresses: Mapping[str, str], prefix: str
) -> list[str]:
    """Return the names of the containers on a network that have an address of another host.

    containers: Name and IPv4Address (with a prefix length) by id. addresses: by host. prefix: before "-HOST" in names.
    """
    owners = {address: f"{prefix}-{host}" for host, address in addresses.items()}
    found = {each["Name"]: each["IPv4Address"].partition("/")[0] for each in containers.values()}
    return sorted(name for name, address in found.items() if owners.get(address, name) != name)


def public_names(server_names: Iterable[str]) -> list[str]:
    """Return names and addresses as they stand in a URL; a wildcard is replaced by the label "www"."""
    return [_bracketed(re.sub(r"^\*", "www", name)) for name in server_names]


def firewall_ports(
    flows: Sequence[Mapping[str, Any]],
    host_groups: Iterable[str],
    groups: Mapping[str, Sequence[str]],
    addresses: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return the ports that a host opens, as the role firewall takes them.

    flows: topology_flows, templated. host_groups: the groups of the host. groups: the hosts of each group.
    addresses: the address of each host. The flows don't contain SSH: the role firewall opens it itself.
    """
    member = set(host_groups)
    hosts = {name: [addresses[host] for host in groups.get(name, [])] for name in {flow["from"] for flow in flows}}
    return [
        {
            "port": flow["port"],
            "protocol": flow["protocol"],
            "sources": EVERY_NETWORK if flow["from"] == ANYWHERE else hosts[flow["from"]],
            "limited": flow.get("limited", False),
        }
        for flow in flows
        if member.intersection(flow["to"]) and flow["port"] != SSH
    ]


def default_flows(role: Path = ROLE) -> list[dict[str, Any]]:
    """Return topology_flows with the ports that roles/topology sets by default."""
    import yaml  # only for the table: on the controller the filters need nothing but the standard library

    defaults: dict[str, Any] = {}
    for path in sorted((role / "defaults").rglob("*.yml")):
        defaults |= yaml.safe_load(path.read_text()) or {}
    flows: list[dict[str, Any]] = yaml.safe_load((role / "vars" / "main" / "flows.yml").read_text())["topology_flows"]
    for flow in flows:
        if reference := re.fullmatch(r"\{\{ (\w+) \}\}", str(flow["port"])):
            flow["port"] = defaults[reference[1]]
        elif flow["port"] == SSH:
            flow["port"] = SSH_PORT
    return flows


def flow_table(flows: Iterable[Mapping[str, Any]]) -> str:
    """Return flows as a Markdown table."""
    rows = ["| hosts of group | port | protocol | reachable from |", "|---|---|---|---|"]
    rows += [f"| {', '.join(flow['to'])} | {flow['port']} | {flow['protocol']} | {flow['from']} |" for flow in flows]
    return "\n".join(rows) + "\n"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        functions = (host_addresses, endpoints, misplaced_containers, public_names, firewall_ports)
        return {function.__name__: function for function in functions}


if __name__ == "__main__":
    if sys.argv[1:] != ["flows"]:
        sys.exit(f"usage: {sys.argv[0]} flows")
    print(flow_table(default_flows()), end="")
