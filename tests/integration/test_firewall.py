"""The rules of each group, loaded in network namespaces and scanned from a host of each group and from a stranger."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lib.ansible_runs import Cluster, load_module, render, tool
from lib.port_scan import ANYWHERE, documented, scan

firewall = load_module("plugins/modules/firewall.py")
LIST = " ".join(firewall.LIST + firewall.TABLE)
GROUPS = {"lb1": "nginx", "redis1": "redis", "app1": "app", "app2": "app", "stranger": None}
RENDERED = {80: 18088, 443: 18443}  # the ports that render() chooses
OTHERS = (9100, 9464, 5432)  # not in the table of flows, with listeners
NETWORKS = {"IPv4": "10.91.0.{}", "IPv6": "2001:db8:91::{}"}

LISTEN = """
import select, socket, sys
doors = [socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True) for port in sys.argv[1:]]
print("ready", flush=True)
guests = []
while True:
    for door in select.select(doors, [], [])[0]:
        guests.append(door.accept())
"""


class Net:
    """Hosts on a link: namespaces whose veths meet at a bridge in a namespace of its own."""

    def __init__(self, addresses: dict[str, str]) -> None:
        self.addresses = addresses
        self.processes: list[subprocess.Popen[str]] = []
        self.names = {host: f"anynode-{os.getpid()}-{host}" for host in (*addresses, "switch")}

    def __enter__(self) -> "Net":
        for name in self.names.values():
            self.ip("netns", "add", name)
        self.ip("link", "add", "br0", "type", "bridge", at="switch")
        self.ip("link", "set", "br0", "up", at="switch")
        for host, address in self.addresses.items():
            self.ip("link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", self.names[host], at="switch")
            self.ip("link", "set", host, "master", "br0", "up", at="switch")
            options = ["nodad"] if ":" in address else []
            self.ip("link", "set", "lo", "up", at=host)
            self.run(host, "sysctl -qw net.ipv6.conf.eth0.accept_dad=0")
            self.ip("link", "set", "eth0", "up", at=host)
            self.ip("addr", "add", f"{address}/64" if options else f"{address}/24", "dev", "eth0", *options, at=host)
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "delete", name], check=False)

    def ip(self, *words: str, at: str | None = None) -> None:
        """Run ip, in the namespace of a host if `at` is given."""
        subprocess.run(["ip", *(["-n", self.names[at]] if at else []), *words], check=True)

    def run(self, host: str, command: str, **options: Any) -> str:
        """Run a shell command on a host; return its output."""
        words = ["ip", "netns", "exec", self.names[host], "sh", "-c", command]
        return str(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, **options).stdout)

    def start(self, host: str, script: str, *arguments: object) -> "subprocess.Popen[str]":
        """Start a Python script on a host, and wait for its first line; return the process."""
        words = ["ip", "netns", "exec", self.names[host], sys.executable, "-c", script, *map(str, arguments)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout
        process.stdout.readline()
        return process

    def link_local(self, host: str) -> str:
        """Return the link-local address of a host with the zone that other hosts need."""
        shown = self.run(host, "ip -6 -brief addr show dev eth0 scope link")
        return shown.split()[2].split("/")[0] + "%eth0"


@pytest.fixture(scope="module", params=NETWORKS)
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    return render(tmp_path_factory.mktemp("firewall"), 2, NETWORKS[request.param])


@pytest.fixture(scope="module")
def net(rendered: Cluster) -> Iterator[Net]:
    """All hosts with their rules, and with listeners on all ports of the table and on others."""
    tool("nft", "nftables")
    if os.geteuid() or subprocess.run(["unshare", "--net", "true"], check=False).returncode:
        pytest.skip("network namespaces need CAP_NET_ADMIN and CAP_SYS_ADMIN: run as root")
    last = rendered.addresses["lb1"].rpartition("10")[0] + "99"
    with Net(rendered.addresses | {"stranger": last}) as made:
        for host in rendered.addresses:
            made.start(host, LISTEN, *sorted({port for _, port in rules()}), *OTHERS)
            made.run(host, f"nft --file {rendered.files / host / 'firewall.nft'}")
        yield made


def rules() -> dict[tuple[str, int], str]:
    """Return the documented flows, with the ports that render() chose."""
    return {(group, RENDERED.get(port, port)): source for (group, port), source in documented().items()}


def admitted(host: str, scanner: str) -> set[int]:
    """Return the ports of a host that another host may reach."""
    may = {ANYWHERE, GROUPS[scanner]}
    return {port for (group, port), source in rules().items() if group == GROUPS[host] and source in may}


def scanned(net: Net, host: str, scanner: str, address: str, **options: Any) -> dict[int, str]:
    return scan(lambda command: net.run(scanner, command), address, **options)


@pytest.mark.parametrize("host", [host for host in GROUPS if GROUPS[host]])
def test_each_host_reaches_the_documented_ports_and_no_others(net: Net, host: str) -> None:
    """By the address in the inventory, and by the link-local address, which no rule lists."""
    listening = {port for _, port in rules()} | set(OTHERS)
    scanners = [each for each in GROUPS if each != host]

    def check(scanner: str) -> None:
        for address in (net.addresses[host], net.link_local(host)):
            results = scanned(net, host, scanner, address, ports=listening)
            opened = {port for port, answer in results.items() if answer == "open"}
            expected = admitted(host, "stranger" if "%" in address else scanner)
            assert opened == expected, f"{scanner} at {address}: {results}"
            # All other ports are silent.
            assert set(results) == {port for group, port in rules() if group == GROUPS[host]}

    with ThreadPoolExecutor(len(scanners)) as pool:
        list(pool.map(check, scanners))


def test_a_host_reaches_itself_and_gets_answers_of_others(net: Net) -> None:
    assert scanned(net, "app1", "app1", net.addresses["app1"], ports=[8000, 9464]) == {8000: "open", 9464: "open"}
    # The answer comes to a port that no rule lists.
    assert scanned(net, "redis1", "app1", net.addresses["redis1"], ports=[6379]) == {6379: "open"}


# Connects from this source port.
ASK = "import socket, sys; socket.create_connection((sys.argv[1], 6379), 3, ('', 45678)); print('open')"


def test_an_open_port_may_also_be_the_source_port_of_a_connection(net: Net, rendered: Cluster) -> None:
    """Otherwise some connections would fail if operators open ports of the kernel's ephemeral range."""
    text = rendered.text("app1/firewall.nft")
    assert "dport 8000" in text
    net.run("app1", "nft --file -", input=text.replace("dport 8000", "dport 45678"))
    try:
        assert net.run("app1", shlex.join(["python3", "-c", ASK, net.addresses["redis1"]])) == "open\n"
    finally:
        net.run("app1", "nft --file -", input=text)


# Sends 200 echo requests at once; prints how many were answered within a second.
PINGS = """
import socket, struct, sys, time
v6 = ":" in sys.argv[1]
family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if v6 else (socket.AF_INET, socket.IPPROTO_ICMP)
request, answer, header = (128, 129, 0) if v6 else (8, 0, 20)
door = socket.socket(family, socket.SOCK_RAW, protocol)
for number in range(200):
    checksum = 0xffff - (request << 8) - number  # for IPv6 the kernel computes it
    door.sendto(struct.pack("!BBHHH", request, 0, checksum, 0, number), (sys.argv[1], 0))
door.settimeout(0.1)
answered, end = 0, time.monotonic() + 1
while time.monotonic() < end:
    try:
        answered += door.recv(100)[header] == answer
    except TimeoutError:
        pass
print(answered)
"""


def test_neighbors_are_found_and_pings_are_limited(net: Net) -> None:
    address = net.addresses["redis1"]
    for family in ("-4", "-6"):
        net.run("stranger", f"ip {family} neigh flush dev eth0")
    assert scanned(net, "redis1", "stranger", address, ports=[22]) == {22: "open"}
    answered = int(net.run("stranger", shlex.join(["python3", "-c", PINGS, address])))
    assert 20 <= answered <= 60


HOLD = """
import socket, sys
held = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print("open", flush=True)
sys.stdin.readline()
try:
    held.sendall(b"x")
    held.settimeout(2)
    print(held.recv(1) or "closed", flush=True)
except OSError as error:
    print(type(error).__name__, flush=True)
"""


def test_a_removed_node_loses_its_open_connections(net: Net, rendered: Cluster) -> None:
    """The connections of other nodes stay open."""
    held = {host: net.start(host, HOLD, net.addresses["redis1"], 6379) for host in ("app1", "app2")}
    text = rendered.text("redis1/firewall.nft")
    left = text.replace(f", {net.addresses['app2']} }}", " }")
    assert left != text
    net.run("redis1", "nft --file -", input=left)
    results = {host: process.communicate("go on\n")[0].strip() for host, process in held.items()}
    net.run("redis1", "nft --file -", input=text)
    assert results == {"app1": "TimeoutError", "app2": "ConnectionResetError"}


def test_other_tables_stay(net: Net, rendered: Cluster) -> None:
    net.run("redis1", "nft 'table inet theirs { chain input { type filter hook input priority 10; accept; }; }'")
    theirs = net.run("redis1", "nft list table inet theirs")
    net.run("redis1", f"nft --file {rendered.files / 'redis1' / 'firewall.nft'}")
    assert net.run("redis1", "nft list table inet theirs") == theirs
    net.run("redis1", "nft delete table inet theirs")


# Opens and holds so many connections; prints how many were accepted.
CROWD = """
import socket, struct, sys
own, address, port, count = sys.argv[1:]
held = []
for _ in range(int(count)):
    try:
        held.append(socket.create_connection((address, int(port)), 2, (own, 0) if own else None))
        held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # the other side never closes
    except ConnectionError:
        pass
print(len(held), flush=True)
sys.stdin.readline()
"""


def test_the_connections_of_one_client_are_limited(net: Net, rendered: Cluster) -> None:
    """At all ports together; an IPv6 client is a /64. A refused client is accepted after others have left."""
    stranger, balancer = net.addresses["stranger"], net.addresses["lb1"]
    neighbour = stranger[:-2] + "98"  # in the same /64
    text = rendered.text("lb1/firewall.nft")
    assert text.count("ct count over 500 ") == 2
    net.run("lb1", "nft --file -", input=text.replace("over 500 ", "over 5 "))
    loaded = net.run("lb1", LIST)
    own = f"{neighbour}/64 dev eth0 nodad" if ":" in stranger else f"{neighbour}/24 dev eth0"
    net.run("stranger", f"ip address add {own}")

    def crowd(own: str, port: int, count: int, address: str = balancer) -> tuple[Any, int]:
        words = ["ip", "netns", "exec", net.names["stranger"], sys.executable, "-c", CROWD, own, address]
        words += [str(port), str(count)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        net.processes.append(process)
        assert process.stdout
        return process, int(process.stdout.readline())

    try:
        first, entered = crowd(stranger, 18443, 3)
        assert entered == 3
        second, entered = crowd(stranger, 18088, 10)
        assert entered == 2
        _, entered = crowd(neighbour, 18443, 10)
        assert entered == (0 if ":" in stranger else 5)
        assert crowd("", 18443, 10, net.link_local("lb1"))[1] == 5  # yet another network
        assert crowd(stranger, 22, 10)[1] == 10
        # The listed rules don't contain the connected clients.
        assert net.run("lb1", LIST) == loaded
        assert stranger not in loaded
        for process in (first, second):
            process.communicate("go\n")
        _, entered = crowd(stranger, 18443, 10)
        assert entered == 5
    finally:
        net.run("lb1", "nft --file -", input=text)


def test_behind_another_balancer_connections_are_not_limited(tmp_path: Path) -> None:
    inventory = render(tmp_path, 2, nginx_trusted_proxies=["192.0.2.250"])
    assert "ct count" not in inventory.text("lb1/firewall.nft")


class Module:
    """Ansible's module for firewall.py on a host of the net, without systemd."""

    check_mode = False

    def __init__(self, net: Net, host: str) -> None:
        self.words = ["ip", "netns", "exec", net.names[host]]

    def run_command(self, command: list[str], check_rc: bool = False, data: str | None = None) -> tuple[int, str, str]:
        if command[0].startswith("systemd"):
            return 0, "", ""
        done = subprocess.run([*self.words, *command], check=check_rc, capture_output=True, text=True, input=data)
        return done.returncode, done.stdout, done.stderr

    def get_bin_path(self, name: str, required: bool) -> str:
        return name


def test_unconfirmed_rules_can_be_rolled_back_completely(
    net: Net, rendered: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the table of earlier versions, which the rules delete."""
    for name in ("PROPOSED", "BEFORE"):
        monkeypatch.setattr(firewall, name, tmp_path / name)
    old = "table inet anynode_redis { chain input { type filter hook input priority 0; tcp dport 6379 drop; }; }"
    net.run("redis1", f"nft '{old}'")
    ours = net.run("redis1", "nft list table inet anynode")
    before = net.run("redis1", "nft list ruleset")
    host = firewall.Firewall(Module(net, "redis1"))
    rules = rendered.text("redis1/firewall.nft").replace("6379", "6380")
    host.load(rules, host.loaded(), 45, unconfirmed=False)
    assert "anynode_redis" not in net.run("redis1", "nft list ruleset")
    net.run("redis1", f"nft --file {tmp_path}/BEFORE")
    assert net.run("redis1", "nft list table inet anynode") == ours
    assert sorted(net.run("redis1", "nft list ruleset").splitlines()) == sorted(before.splitlines())
    net.run("redis1", "nft delete table inet anynode_redis")
