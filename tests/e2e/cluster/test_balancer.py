"""The balancer: nodes that don't answer cost no request that another node can answer."""

from collections.abc import Callable, Iterator

import pytest
from lib.cluster import Client, Cluster, eventually

STOP = "systemctl stop anynode.socket anynode.service"
START = "systemctl start anynode.socket anynode.service"

# Replaces the app: accepts requests, counts the POSTs, and closes the connection without an answer.
TRAITOR = """
import socket, sys
server = socket.create_server((sys.argv[1], 8000))
open("/run/posts", "w").close()
while True:
    connection, _ = server.accept()
    if connection.recv(65536).startswith(b"POST"):
        open("/run/posts", "a").write("x")
    connection.close()
"""


@pytest.fixture
def stop(cluster: Cluster) -> Iterator[Callable[..., None]]:
    """Stop the app on nodes; it is started again on all of them at the end of the test."""

    def stop(*hosts: str) -> None:
        for host in hosts:
            cluster.run(host, STOP)

    yield stop
    for host in cluster.apps:
        cluster.run(host, START)
        assert cluster.becomes_ready(host)


def nodes_used(cluster: Cluster, client: Client) -> set[str]:
    """Return the nodes that answer twenty requests through the balancer."""
    return {client.get(cluster.balancer).headers["X-Node"] for _ in range(20)}


def test_a_stopped_node_costs_no_request(cluster: Cluster, stop: Callable[..., None]) -> None:
    """Neither GET nor POST fails, each POST counts once, and the node is used again after its start."""
    client = cluster.log_in(cluster.balancer)
    stop(cluster.apps[0])
    for number in range(1, 41):
        answer = client.post(cluster.balancer, "/api/counter")
        assert (answer.status_code, answer.json()["counter"]) == (200, number)
        assert client.get(cluster.balancer).json()["counter"] == number
    assert nodes_used(cluster, client) == set(cluster.apps[1:])
    cluster.run(cluster.apps[0], START)
    assert eventually(lambda: nodes_used(cluster, client) == set(cluster.apps), seconds=20)


def test_a_post_that_was_sent_is_never_sent_twice(
    cluster: Cluster, stop: Callable[..., None], request: pytest.FixtureRequest
) -> None:
    """A node accepts requests and closes the connection: a GET is retried on the next node, a POST fails."""
    traitor, honest = cluster.apps[:2]
    client = cluster.log_in(honest)
    stop(traitor)
    run = f"nohup timeout 60 python3 -c '{TRAITOR}' {cluster.address[traitor]} >/dev/null 2>&1 & echo $! >/run/traitor"
    request.addfinalizer(lambda: cluster.run(traitor, "kill $(cat /run/traitor)"))
    cluster.run(traitor, run)
    assert eventually(lambda: cluster.run(traitor, "ss -Hltn sport = :8000"))
    statuses = []

    def a_post_was_lost() -> bool:
        statuses.append(client.post(cluster.balancer, "/api/counter").status_code)
        return 503 in statuses

    # The balancer doesn't use the node for a few seconds, since it was stopped; then it sends requests again.
    assert eventually(a_post_was_lost, seconds=20)
    for _ in range(10):
        assert client.get(cluster.balancer).status_code == 200
    assert set(statuses) <= {200, 503}
    assert statuses.count(503) == len(cluster.run(traitor, "cat /run/posts"))
    assert statuses.count(200) == client.get(honest).json()["counter"]


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_the_balancer_answers_when_no_node_does(cluster: Cluster, stop: Callable[..., None], kind: str) -> None:
    """503 with Retry-After and the request's id: a page for browsers, JSON for programs."""
    client = cluster.log_in(cluster.balancer)
    stop(*cluster.apps)
    answer = client.get(cluster.balancer, headers={"Accept": kind})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Content-Type"].startswith(kind)
    assert answer.headers["X-Request-ID"] in answer.text
    assert "No app node answers" in answer.text


def test_a_clients_address_cant_be_forged(cluster: Cluster) -> None:
    """Neither the balancer nor a node that is queried directly trusts a client's header."""
    forged = {"X-Forwarded-For": "203.0.113.9"}
    for host in cluster.http_hosts:
        client = cluster.client()
        assert client.post(host, "/api/login", cluster.account, headers=forged).status_code == 200
        (own,) = [each for each in client.get(host, "/api/sessions").json()["sessions"] if each["current"]]
        assert own["address"] not in ("203.0.113.9", *cluster.address.values())
