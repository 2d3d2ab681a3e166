"""The firewall, tested from every host at every other host. Runs that change it are in tests/e2e/repair."""

import ipaddress
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import permutations

import pytest
from lib.cluster import Cluster, eventually
from lib.port_scan import ANYWHERE, SOURCE, documented, scan

Stranger = tuple[str, tuple[str, str]]
TABLE = "nft --stateless --terse list table inet anynode"


def admitted(cluster: Cluster, host: str, source: str | None = None) -> set[int]:
    """Return the ports of a host that another host may connect to; without a source, a stranger."""
    return {
        port
        for (group, port), origin in documented().items()
        if host in cluster.groups[group] and (origin == ANYWHERE or source in cluster.groups.get(origin, []))
    }


def answering(cluster: Cluster, host: str) -> set[int]:
    """Return the ports of a host that reject other sources; all other ports are silent."""
    return {port for group, port in documented() if host in cluster.groups[group]}


def used_ports(cluster: Cluster) -> set[int]:
    """Return the documented ports, and all ports on which a host listens."""
    listening = "ss -Hltn | awk '{print $4}' | sed 's/.*://'"
    found = {int(port) for host in cluster.address for port in cluster.run(host, listening).split()}
    return found | {port for _, port in documented()}


@pytest.fixture(scope="module")
def stranger(cluster: Cluster) -> Iterator[Stranger]:
    """An unused address of the cluster's network, and the two hosts that use it in turn to scan the others."""
    network = ipaddress.ip_network(cluster.variables[cluster.balancer]["local_nodes_subnet"])
    address = f"{network[199]}/{network.prefixlen}"
    scanners = (cluster.balancer, cluster.redis)
    yield str(network[199]), scanners
    for host in scanners:
        cluster.run(host, f"ip address delete {address} dev eth0", check=False)


@pytest.fixture
def beside(cluster: Cluster, stranger: Stranger) -> Callable[[str], Callable[[str], str]]:
    """Give the stranger's address to another host than the scanned host; return a function that runs commands there."""
    own, (first, second) = stranger

    def beside(host: str) -> Callable[[str], str]:
        here, there = (second, first) if host == first else (first, second)
        cluster.run(there, f"ip address delete {own}/24 dev eth0", check=False)
        cluster.run(here, f"ip address replace {own}/24 dev eth0")
        # The scanned host must look up the address again.
        cluster.run(host, f"ip neighbour delete {own} dev eth0", check=False)
        return partial(cluster.run, here)

    return beside


def opened(answers: dict[int, str]) -> set[int]:
    """Return the ports that accepted a connection."""
    return {port for port, answer in answers.items() if answer == "open"}


def test_only_documented_ports_of_hosts_are_open(cluster: Cluster) -> None:
    """All 65,535 ports of each host from each other host; used ports also at the link-local address."""
    some = used_ports(cluster)

    def assert_open_ports(pair: tuple[str, str]) -> None:
        host, source = pair
        local = cluster.run(host, "ip -6 -brief address show dev eth0 scope link | awk '{print $3}' | cut -d/ -f1")
        answers = scan(partial(cluster.run, source), cluster.address[host])
        # A scan in the other direction opens this port, which a stranger scans: probes are taken for answers.
        answers.pop(SOURCE, None)
        assert opened(answers) == admitted(cluster, host, source), f"{source} -> {host}: {answers}"
        assert set(answers) == answering(cluster, host), f"{source} -> {host}: {answers}"
        if local:
            answers = scan(partial(cluster.run, source), f"{local}%eth0", some, timeout=2)
            assert opened(answers) <= admitted(cluster, host), f"{source} -> {host}, {local}: {answers}"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(assert_open_ports, permutations(cluster.address, 2)))


def test_only_documented_ports_are_open_to_a_stranger(
    cluster: Cluster, stranger: Stranger, beside: Callable[[str], Callable[[str], str]]
) -> None:
    """All 65,535 ports, of a host of each group."""
    for host in (hosts[0] for hosts in cluster.groups.values()):
        run = beside(host)
        answers = scan(run, cluster.address[host], answering(cluster, host), timeout=2, own=stranger[0])
        assert set(answers) == answering(cluster, host), f"{host}: {answers}"
        assert opened(answers) == admitted(cluster, host), f"{host}: {answers}"
        answers = scan(run, cluster.address[host], own=stranger[0])
        assert set(answers) <= answering(cluster, host), f"{host}: {answers}"
        assert opened(answers) <= admitted(cluster, host), f"{host}: {answers}"


@pytest.mark.parametrize("verb", ["restart", "reload"])
def test_the_rules_return_when_debians_own_are_loaded(cluster: Cluster, verb: str) -> None:
    """nftables.service flushes all rules, and Anynode's are loaded again; the tables of others stay."""
    host = cluster.apps[0]
    before = cluster.run(host, TABLE)
    cluster.run(host, f"systemctl start nftables && systemctl {verb} nftables")
    try:
        assert eventually(lambda: cluster.run(host, TABLE, check=False) == before)
    finally:
        cluster.run(host, "systemctl stop nftables && systemctl restart anynode-firewall")
    assert cluster.run(host, TABLE) == before


def test_redis_does_not_start_without_firewall_rules(cluster: Cluster) -> None:
    """It starts when the rules can be loaded again, without another command."""

    def is_active() -> str:
        return cluster.run(cluster.redis, "systemctl is-active redis-server", check=False)

    def restarts() -> str:
        return cluster.run(cluster.redis, "systemctl show --value --property NRestarts redis-server")

    move = "mv /etc/anynode/firewall{}.nft /etc/anynode/firewall{}.nft"
    cluster.run(cluster.redis, move.format("", "-away") + "; systemctl restart anynode-firewall || true")
    try:
        cluster.run(cluster.redis, "systemctl restart --no-block redis-server")
        assert eventually(lambda: int(restarts()) > 0)  # systemd refused to start it
        assert not eventually(lambda: is_active() == "active", seconds=3)
    finally:
        cluster.run(cluster.redis, move.format("-away", "") + "; systemctl restart anynode-firewall")
    assert eventually(lambda: is_active() == "active")
    assert cluster.client().get(cluster.apps[0], "/healthz").status_code == 200
    assert eventually(lambda: cluster.client().get(cluster.apps[0], "/readyz").status_code == 200)
