"""Groups of the inventory, and the addresses of the hosts in them."""

import ipaddress
from collections.abc import Iterator

from ansible.module_utils.anynode.validation import Groups, Hosts, names, shown

TIERS = ("nginx", "redis", "app")
CONNECTIONS = ("ssh", "smart", "ansible.builtin.ssh")
TRUE = ("true", "yes", "on", "1")
SUDO = (
    "makes tasks on the controller use sudo, too. Remove it: the playbooks use sudo on the hosts where it is needed"
    " (ansible_become_password is accepted)."
)


def tier_hosts(groups: Groups) -> list[str]:
    """Return the hosts of all tiers, sorted."""
    return sorted({host for tier in TIERS for host in groups.get(tier, [])})


def group_errors(groups: Groups) -> Iterator[str]:
    """Each tier needs hosts of its own."""
    for tier in TIERS:
        if tier not in groups:
            yield f"The group `{tier}` is missing. Add it to the inventory, with at least one host."
        elif not groups[tier]:
            yield f"The group `{tier}` is empty. List at least one host in it."
    redis = groups.get("redis", [])
    if len(redis) > 1:
        yield f"The group `redis` has {len(redis)} hosts ({names(redis)}), expected 1 session store. Keep one host."
    for host in tier_hosts(groups):
        inside = [tier for tier in TIERS if host in groups.get(tier, [])]
        if len(inside) > 1:
            yield (
                f"{host} is in the groups {' and '.join(inside)}. Keep it in one of them: a host has one role, so that"
                " draining, rebooting or losing it affects no other tier."
            )


def address_errors(groups: Groups, hosts: Hosts, default_subnet: str) -> Iterator[str]:
    """Each host needs an IP address of its own; a local container's address lies in its network's subnet."""
    owners: dict[ipaddress.IPv4Address | ipaddress.IPv6Address, list[str]] = {}
    for host in tier_hosts(groups):
        variables = hosts[host]
        if "ansible_host" not in variables:
            yield f"{host} has no ansible_host. Set it to the address that Ansible connects to."
            continue
        # SSH may use a host name, or one forwarded address for many hosts; other nodes need an address for each host.
        option = "topology_address" if "topology_address" in variables else "ansible_host"
        address = str(variables[option])
        if is_address(address):
            owners.setdefault(ipaddress.ip_address(address), []).append(host)
        else:
            yield f"{host}: {option} is {shown(address)}, not an IP address. Set {option} or topology_address to one."
        if host in groups.get("local_nodes", []):
            subnet = str(variables.get("local_nodes_subnet", default_subnet))
            yield from local_address_errors(host, subnet, str(variables["ansible_host"]))
    for owned, owned_by in owners.items():
        if len(owned_by) > 1:
            yield f"{' and '.join(owned_by)} have the same address, {owned}. Give each host its own."


def local_address_errors(host: str, subnet: str, address: str) -> Iterator[str]:
    """The container engine assigns the address: it must be a free address of the subnet."""
    try:
        network = ipaddress.ip_network(subnet)
    except ValueError as error:
        yield f"local_nodes_subnet is invalid: {error}. Set it to a network such as 10.77.0.0/24."
        return
    if not is_address(address):
        return
    if ipaddress.ip_address(address) not in network:
        yield f"{host}: {address} is not in local_nodes_subnet, {subnet}. Change either of them."
    elif ipaddress.ip_address(address) in (network[0], network[1], network[-1]):
        yield f"{host}: {address} is the network, gateway or broadcast address of {subnet}. Choose another."


def connection_errors(groups: Groups, hosts: Hosts) -> Iterator[str]:
    """Hosts are reached by SSH, and the controller isn't one of them; sudo is used for single tasks only."""
    if "localhost" in groups.get("all", []):
        yield (
            "localhost is in the inventory, where it replaces Ansible's own definition of the controller, with another"
            " Python. Remove it; the playbooks need no entry for the controller."
        )
    becoming = [host for host, variables in hosts.items() if str(variables.get("ansible_become", "")).lower() in TRUE]
    if becoming:
        yield f"`ansible_become` (set for {names(becoming)}) {SUDO}"
    other = [host for host, variables in hosts.items() if variables.get("ansible_become_user", "root") != "root"]
    if other:
        yield f"`ansible_become_user` (set for {names(other)}) isn't root. Remove it: packages and units need root."
    for host in tier_hosts(groups):
        connection = str(hosts[host].get("ansible_connection", "ssh"))
        if connection not in CONNECTIONS:
            yield (
                f"{host}: ansible_connection is {shown(connection)}, expected ssh: the firewall admits the controller"
                " by the address of its SSH connection. Remove it, and set ansible_host to an address with SSH."
            )


def is_address(text: object) -> bool:
    """Return whether a value is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True
