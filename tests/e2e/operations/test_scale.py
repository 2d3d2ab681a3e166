"""From a single app node to four, and to two, by a change of the inventory and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from lib.cluster import Cluster
from lib.deployments import deployment_ids, pids
from lib.load_fixtures import Load

# An open connection to Redis that a node must lose when it leaves the cluster.
HOLD = """python3 -c '
import socket, ssl, time
tls = ssl.create_default_context(cafile="/etc/anynode/tls/ca.crt")
held = tls.wrap_socket(socket.create_connection(("{0}", 6379), 3), server_hostname="{0}")
while True:
    held.sendall(b"PING\\r\\n")
    if not held.recv(100): break
    time.sleep(0.2)
'"""


def upstreams(cluster: Cluster) -> set[str]:
    """Return the addresses of the app nodes in nginx's configuration."""
    lines = cluster.run(cluster.balancer, "nginx -T 2>/dev/null | grep -E '^ *server [0-9]'").splitlines()
    return {line.split()[1].split(":")[0] for line in lines}


def test_a_deployment_on_a_single_node(
    cluster: Cluster, unnoticed: Callable[..., Load], release: Callable[..., list[str]]
) -> None:
    """No other node can take over: systemd holds the socket, and clients wait."""
    one = cluster.of_size("one")
    before = pids(one, "app1")
    with unnoticed("deploy on a single node", worst_wait=2):
        run = one.playbook("playbooks/deploy.yml", *release())
    assert run.ok, run.output
    assert pids(one, "app1") != before


def test_the_last_active_node_is_not_drained(cluster: Cluster) -> None:
    one = cluster.of_size("one")
    run = one.playbook("playbooks/drain.yml", "-e", "node=app1")
    assert not run.ok
    assert "app1 is the last" in run.words
    assert one.client().get(one.balancer, "/readyz").status_code == 200


def test_scale_up_and_down(cluster: Cluster, unnoticed: Callable[..., Load]) -> None:
    """A line more in the inventory adds a node; a line less removes it everywhere. Sessions remain.

    The first node returns to the project's own release in the run that adds the others.
    """
    one, two, four = (cluster.of_size(name) for name in ("one", "two", "four"))
    difference = set(four.inventory.read_text().splitlines()) ^ set(one.inventory.read_text().splitlines())
    assert {line.split(":")[0].strip() for line in difference} == {"app2", "app3", "app4"}

    early = four.log_in("app1")  # a client of all nodes, though one serves yet
    with unnoticed("from 1 node to 4", worst_wait=2):
        four.converge()
    assert len(deployment_ids(four)) == 4
    with unnoticed("from 4 nodes to 2"):
        assert four.converge().idempotent
        assert upstreams(four) == {four.address[host] for host in four.apps}
        for host in four.apps:
            assert early.get(host).json()["started_on"] == "app1"
        late = four.log_in("app4")

        rules = "nft list table inet anynode"
        assert four.address["app4"] in four.run(four.redis, rules)
        hold = subprocess.Popen(
            ["docker", "exec", f"{four.prefix}-app3", "sh", "-c", HOLD.format(four.address[four.redis])],
            stderr=subprocess.PIPE,
            text=True,
        )
        # Nodes leave the balancer first, then the firewall's lists, while their hosts still run: an open connection
        # must end, too.
        two.converge("--tags", "firewall")
        assert "ConnectionResetError" in hold.communicate(timeout=20)[1]
        assert four.address["app4"] not in two.run(two.redis, rules)
        two.converge()

    assert upstreams(two) == {two.address[host] for host in two.apps}
    listed = subprocess.run(
        ["docker", "ps", "-a", "--format", "{{.Names}}", "--filter", f"label=anynode.cluster={two.prefix}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(listed.stdout.split()) == {f"{two.prefix}-{host}" for host in two.address}
    for client in (early, late):
        for host in two.http_hosts:
            assert client.get(host).status_code == 200
