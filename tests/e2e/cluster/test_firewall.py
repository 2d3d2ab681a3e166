"""The firewall: every machine tries every other one. What runs do with it is in tests/e2e/repair."""

import ipaddress
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import permutations

import pytest
from lib.cluster import eventually
from lib.port_scan import ANYWHERE, documented, scan

SOURCES = 16  # machines knock at each other from ports up to this one, which strangers try
TABLE = "nft --stateless --terse list table inet anynode"


def admitted(cluster, host, knocker=None):
    """The ports of a machine that another one may reach; without a name, a stranger."""
    return {
        port
        for (group, port), source in documented().items()
        if host in cluster.groups[group] and (source == ANYWHERE or knocker in cluster.groups.get(source, []))
    }


def gated(cluster, host):
    """The ports of a machine where those who may not are told so; the others say nothing."""
    return {port for group, port in documented() if host in cluster.groups[group]}


def ports_that_matter(cluster):
    """Those of the table, and all on which some machine listens."""
    listening = "ss -Hltn | awk '{print $4}' | sed 's/.*://'"
    found = {int(port) for host in cluster.address for port in cluster.run(host, listening).split()}
    return found | {port for _, port in documented()}


@pytest.fixture(scope="module")
def stranger(cluster):
    """An address of the cluster's network that no list has; two machines lend it their place, so all can be tried."""
    network = ipaddress.ip_network(cluster.variables[cluster.balancer]["local_nodes_subnet"])
    address = f"{network[199]}/{network.prefixlen}"
    lenders = (cluster.balancer, cluster.redis)
    yield str(network[199]), lenders
    for host in lenders:
        cluster.run(host, f"ip address delete {address} dev eth0", check=False)


@pytest.fixture
def place(cluster, stranger):
    """Give the stranger a place beside a machine; return what runs commands there."""
    own, (first, second) = stranger

    def beside(host):
        here, there = (second, first) if host == first else (first, second)
        cluster.run(there, f"ip address delete {own}/24 dev eth0", check=False)
        cluster.run(here, f"ip address replace {own}/24 dev eth0")
        # Who has met the address elsewhere must look for it anew.
        cluster.run(host, f"ip neighbour delete {own} dev eth0", check=False)
        return partial(cluster.run, here)

    return beside


def opened(said):
    return {port for port, answer in said.items() if answer == "open"}


def test_every_machine_reaches_what_the_docs_say_and_nothing_else(cluster):
    """All 65,535 ports, each from each other one; some again by the link's own address, which no list has."""
    some = ports_that_matter(cluster)

    def tried(pair):
        host, knocker = pair
        local = cluster.run(host, "ip -6 -brief address show dev eth0 scope link | awk '{print $3}' | cut -d/ -f1")
        said = scan(partial(cluster.run, knocker), cluster.address[host], sources=SOURCES)
        # Who has knocked from a port lets in there whom it knocked at: that could be the answer.
        said = {port: answer for port, answer in said.items() if port > SOURCES}
        assert opened(said) == admitted(cluster, host, knocker), f"{knocker} -> {host}: {said}"
        assert set(said) == gated(cluster, host), f"{knocker} -> {host}: {said}"
        if local:
            said = scan(partial(cluster.run, knocker), f"{local}%eth0", some, timeout=2)
            assert opened(said) <= admitted(cluster, host), f"{knocker} -> {host}, {local}: {said}"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tried, permutations(cluster.address, 2)))


def test_no_port_of_any_kind_of_machine_answers_a_stranger_but_those_in_the_docs(cluster, stranger, place):
    """All 65,535 of them, of a machine of each group."""
    for host in (hosts[0] for hosts in cluster.groups.values()):
        beside = place(host)
        said = scan(beside, cluster.address[host], gated(cluster, host), timeout=2, own=stranger[0])
        assert (set(said), opened(said)) == (gated(cluster, host), admitted(cluster, host)), f"{host}: {said}"
        said = scan(beside, cluster.address[host], own=stranger[0])
        assert set(said) <= gated(cluster, host), f"{host}: {said}"
        assert opened(said) <= admitted(cluster, host), f"{host}: {said}"


@pytest.mark.parametrize("verb", ["restart", "reload"])
def test_the_rules_come_back_when_debians_own_are_loaded(cluster, verb):
    """nftables.service flushes everything; other tables stay when ours are loaded."""
    host = cluster.apps[0]
    before = cluster.run(host, TABLE)
    cluster.run(host, f"systemctl start nftables && systemctl {verb} nftables")
    try:
        assert eventually(lambda: cluster.run(host, TABLE, check=False) == before)
    finally:
        cluster.run(host, "systemctl stop nftables && systemctl restart anynode-firewall")
    assert cluster.run(host, TABLE) == before


def test_redis_stays_down_where_the_rules_can_not_be_loaded(cluster):
    """And starts by itself once they can."""

    def is_active():
        return cluster.run(cluster.redis, "systemctl is-active redis-server", check=False)

    def restarts():
        return cluster.run(cluster.redis, "systemctl show --value --property NRestarts redis-server")

    move = "mv /etc/anynode/firewall{}.nft /etc/anynode/firewall{}.nft"
    cluster.run(cluster.redis, move.format("", "-away") + "; systemctl restart anynode-firewall || true")
    try:
        cluster.run(cluster.redis, "systemctl restart --no-block redis-server")
        assert eventually(lambda: int(restarts()) > 0)  # it was tried, and refused
        assert not eventually(lambda: is_active() == "active", seconds=3)
    finally:
        cluster.run(cluster.redis, move.format("-away", "") + "; systemctl restart anynode-firewall")
    assert eventually(lambda: is_active() == "active")
    assert cluster.visitor().get(cluster.apps[0], "/healthz").status_code == 200
    assert eventually(lambda: cluster.visitor().get(cluster.apps[0], "/readyz").status_code == 200)
