"""From 2 app nodes to 4 and back to 2, by a change of the inventory and nothing else."""

import subprocess

from lib.cluster import Cluster, changed

# A connection that is open is not enough: the node must lose it when it leaves.
HOLD = """python3 -c '
import socket, ssl, time
tls = ssl.create_default_context(cafile="/etc/anynode/tls/ca.crt")
held = tls.wrap_socket(socket.create_connection(("{0}", 6379), 3), server_hostname="{0}")
while True:
    held.sendall(b"PING\\r\\n")
    if not held.recv(100): break
    time.sleep(0.2)
'"""


def upstreams(cluster):
    """The app nodes that nginx has loaded."""
    lines = cluster.run(cluster.balancer, "nginx -T 2>/dev/null | grep -E '^ *server [0-9]'").splitlines()
    return {line.split()[1].split(":")[0] for line in lines}


def test_scale_up_and_down(cluster, unnoticed):
    """A line more is a node more; a line less is a node that is gone everywhere. Sessions live on, nobody notices."""
    two = cluster
    four = Cluster(two.inventory.with_name("four.yml"))
    difference = set(four.inventory.read_text().splitlines()) ^ set(two.inventory.read_text().splitlines())
    assert {line.split(":")[0].strip() for line in difference} == {"app3", "app4"}

    early = four.log_in(two.apps[0])
    with unnoticed("from 2 nodes to 4 to 2"):
        two.converge(inventory=four.inventory)
        assert set(changed(two.converge(inventory=four.inventory)).values()) == {0}
        assert upstreams(four) == {four.address[host] for host in four.apps}
        for host in four.apps:
            assert early.get(host).json()["started_on"] == two.apps[0]
        late = four.log_in("app4")

        gate = "nft list table inet anynode"
        assert four.address["app4"] in four.run(four.redis, gate)
        hold = subprocess.Popen(
            ["docker", "exec", f"{four.prefix}-app3", "sh", "-c", HOLD.format(four.address[four.redis])],
            stderr=subprocess.PIPE,
            text=True,
        )
        # Nodes leave the balancer first, then the firewall's lists, with the machines still there: the connection that
        # is open must end, too.
        two.converge("--tags", "firewall")
        assert "ConnectionResetError" in hold.communicate(timeout=20)[1]
        assert four.address["app4"] not in two.run(two.redis, gate)
        two.converge()

    assert upstreams(two) == {two.address[host] for host in two.apps}
    listed = subprocess.run(
        ["docker", "ps", "-a", "--format", "{{.Names}}", "--filter", f"label=anynode.cluster={two.prefix}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(listed.stdout.split()) == {f"{two.prefix}-{host}" for host in two.address}
    for visitor in (early, late):
        for host in two.doors:
            assert visitor.get(host).status_code == 200
    assert two.playbook("playbooks/verify.yml").returncode == 0
