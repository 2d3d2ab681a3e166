"""The balancer: what it does when nodes are away, and that visitors do not notice where they need not."""

import pytest
from lib.cluster import eventually

STOP = "systemctl stop anynode.socket anynode.service"
START = "systemctl start anynode.socket anynode.service"

# In the place of the app: takes what it is sent, counts the POSTs, and hangs up without an answer.
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
def away(cluster):
    """Stop the app on the nodes that a test names; all run again afterwards."""

    def stop(*hosts):
        for host in hosts:
            cluster.run(host, STOP)

    yield stop
    for host in cluster.apps:
        cluster.run(host, START)
        assert eventually(lambda host=host: cluster.visitor().get(host, "/readyz").status_code == 200)


def nodes_used(cluster, visitor):
    """The nodes that answer twenty requests through the balancer."""
    return {visitor.get(cluster.balancer).headers["X-Node"] for _ in range(20)}


def test_a_node_that_is_away_costs_no_visitor_a_request(cluster, away):
    """Neither GET nor POST fails, each POST counts once, and the node is used again when it is back."""
    visitor = cluster.log_in(cluster.balancer)
    away(cluster.apps[0])
    for number in range(1, 41):
        answer = visitor.post(cluster.balancer, "/api/counter")
        assert (answer.status_code, answer.json()["counter"]) == (200, number)
        assert visitor.get(cluster.balancer).json()["counter"] == number
    assert nodes_used(cluster, visitor) == set(cluster.apps[1:])
    cluster.run(cluster.apps[0], START)
    assert eventually(lambda: nodes_used(cluster, visitor) == set(cluster.apps), seconds=20)


def test_a_post_that_was_sent_is_never_sent_twice(cluster, away, request):
    """A node takes requests and dies on them: a GET goes on to the next one, a POST fails and is not repeated."""
    traitor, honest = cluster.apps[:2]
    visitor = cluster.log_in(honest)
    away(traitor)
    run = f"nohup timeout 60 python3 -c '{TRAITOR}' {cluster.address[traitor]} >/dev/null 2>&1 & echo $! >/run/traitor"
    request.addfinalizer(lambda: cluster.run(traitor, "kill $(cat /run/traitor)"))
    cluster.run(traitor, run)
    assert eventually(lambda: cluster.run(traitor, "ss -Hltn sport = :8000"))
    statuses = []

    def one_was_lost():
        statuses.append(visitor.post(cluster.balancer, "/api/counter").status_code)
        return 503 in statuses

    # The balancer leaves the node out for a few seconds, for having been away; then it asks it again.
    assert eventually(one_was_lost, seconds=20)
    for _ in range(10):
        assert visitor.get(cluster.balancer).status_code == 200
    assert set(statuses) <= {200, 503}
    assert statuses.count(503) == len(cluster.run(traitor, "cat /run/posts"))
    assert statuses.count(200) == visitor.get(honest).json()["counter"]


@pytest.mark.parametrize(("accept", "kind"), [("application/json", "application/json"), ("text/html", "text/html")])
def test_no_node_at_all_is_said_by_the_balancer(cluster, away, accept, kind):
    """503 with Retry-After and the request's id: a page to people, JSON to programs."""
    visitor = cluster.log_in(cluster.balancer)
    away(*cluster.apps)
    answer = visitor.get(cluster.balancer, headers={"Accept": accept})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Content-Type"].startswith(kind)
    assert answer.headers["X-Request-ID"] in answer.text
    assert "No app node answers" in answer.text


def test_nginx_is_reloaded_and_never_restarted_by_a_run_of_its_part_alone(cluster):
    """A changed setting takes effect in new workers of the same master, and no other role's tasks run."""
    master = "systemctl show --value --property MainPID nginx.service"
    workers = "pgrep -u www-data nginx"
    before, old = cluster.run(cluster.balancer, master), set(cluster.run(cluster.balancer, workers).split())
    try:
        output = cluster.converge("--tags", "nginx", "-e", "nginx_read_timeout=29s")
        assert cluster.run(cluster.balancer, master) == before
        assert eventually(lambda: not old & set(cluster.run(cluster.balancer, workers).split()))
    finally:
        cluster.converge("--tags", "nginx")
    assert "TASK [nginx : Configure the balancer]" in output
    assert "TASK [redis : Configure" not in output
    assert "TASK [app : Configure" not in output


def test_the_address_of_a_visitor_is_the_real_one(cluster):
    """What a client claims about itself is believed neither by the balancer nor by a node that is asked directly."""
    forged = {"X-Forwarded-For": "203.0.113.9"}
    for host in cluster.doors:
        visitor = cluster.visitor()
        assert visitor.post(host, "/api/login", cluster.account, headers=forged).status_code == 200
        (own,) = [each for each in visitor.get(host, "/api/sessions").json()["sessions"] if each["current"]]
        assert own["address"] not in ("203.0.113.9", *cluster.address.values())
