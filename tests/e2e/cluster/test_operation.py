"""Guarantees for operators: bad settings are refused, request ids connect the logs, documented commands work."""

import json
import re
from ast import literal_eval
from functools import partial

from lib.cluster import ROOT, Cluster, eventually
from lib.port_scan import knock


def test_a_bad_setting_of_redis_is_refused_before_it_is_installed(cluster: Cluster) -> None:
    """By this version of Redis; file and service stay as they were.

    tests/e2e/operations/test_deploy.py has a bad setting of each service, and their messages.
    """
    file = "/etc/redis/users.acl"
    before = cluster.run(cluster.redis, f"sha256sum {file}")
    client = cluster.log_in(cluster.balancer)
    run = cluster.playbook("site.yml", "--tags", "redis", "-e", '{"redis_app_commands": ["banana"]}')
    assert not run.ok
    assert "redis" in run.roles
    assert cluster.run(cluster.redis, f"sha256sum {file}") == before
    assert client.get(cluster.balancer).status_code == 200


def test_the_request_id_of_an_answer_is_in_both_logs(cluster: Cluster) -> None:
    """The balancer's line has the node, its address and the times; the node's journal has the same id."""
    answer = cluster.log_in(cluster.balancer).get(cluster.balancer)
    request_id, node = answer.headers["X-Request-ID"], answer.headers["X-Node"]
    find = f"grep {request_id} /var/log/nginx/access.log"
    line = json.loads(eventually(lambda: cluster.run(cluster.balancer, find, check=False)))
    assert line["node"] == node
    assert line["upstream"] == f"{cluster.address[node]}:8000"
    # Not compared with each other: nginx reads two clocks, a millisecond apart.
    assert float(line["request_time"]) >= 0
    assert float(line["response_time"]) >= 0
    assert line["client"] not in cluster.address.values()
    # gunicorn logs after the answer, and the journal stores the line later.
    assert eventually(lambda: request_id in cluster.run(node, "journalctl -u anynode.service -o cat"))


def test_metrics_start_at_zero_and_are_only_served_on_the_node(cluster: Cluster) -> None:
    """As sums over all processes, on a port that is silent for the balancer and the other nodes."""
    scrape = "import urllib.request as url; print(url.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
    for host in cluster.apps:
        cluster.run(host, "systemctl restart anynode.service")
        for _ in range(3):
            assert cluster.client().get(host, "/").status_code == 200
        assert 'anynode_sessions_requests_total{session="none"} 3.0' in cluster.run(host, f'python3 -c "{scrape}"')
        assert cluster.client().get(host, "/metrics").status_code == 404
        for other in {cluster.balancer, *cluster.apps} - {host}:
            assert knock(partial(cluster.run, other), cluster.address[host], ports=[9464]) == {}


def test_the_documented_command_ends_a_users_sessions_on_all_nodes(cluster: Cluster) -> None:
    """As a page of docs/ has it, for one node."""
    text = "\n".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    found = re.search(r"^ *(systemd-run [^`]*? sessions )end-user ada$", text, re.MULTILINE)
    assert found
    command = found[1]
    host, user = cluster.apps[0], cluster.account["username"]
    client = cluster.log_in(cluster.apps[-1])
    assert cluster.apps[-1] in cluster.run(host, f"{command} list {user}")
    cluster.run(host, f"{command} end-user {user}")
    for each in cluster.http_hosts:
        assert client.get(each).status_code == 401


def test_a_restart_of_the_app_delays_requests_and_refuses_none(cluster: Cluster) -> None:
    """systemd holds the socket: a request that arrives during the restart is answered after it."""
    host = cluster.apps[0]
    client = cluster.log_in(host)
    cluster.run(host, "systemctl restart --no-block anynode.service")
    for _ in range(50):
        assert client.get(host).status_code == 200


def test_the_bill_of_materials_lists_the_packages_of_the_release(cluster: Cluster) -> None:
    """Those that Python finds in it, and no others."""
    query = "import importlib.metadata as m; print([(p.name.lower(), p.version) for p in m.distributions(path=['.'])])"
    for host in cluster.apps:
        release = "/srv/anynode/current/release"
        listed = json.loads(cluster.run(host, f"cat {release}/sbom.cdx.json"))
        assert listed["metadata"]["component"]["version"] == cluster.run(host, f"cat {release}/RELEASE")
        installed = cluster.run(host, f'cd {release} && python3 -c "{query}"').replace("_", "-")
        assert {(each["name"], each["version"]) for each in listed["components"]} == set(literal_eval(installed))
