"""What an operator relies on: bad settings never land, one id leads through the logs."""

import json
import re
from ast import literal_eval
from functools import partial

import pytest
from lib.cluster import ROOT, eventually
from lib.port_scan import knock


@pytest.mark.parametrize(
    ("setting", "file", "words"),
    [
        ("redis_maxmemory=banana", "/etc/redis/anynode.conf", "argument must be a memory value"),
        ('{"redis_app_commands": ["banana"]}', "/etc/redis/users.acl", None),  # no_log hides the words
    ],
)
def test_a_bad_setting_is_refused_before_it_lands(cluster, setting, file, words):
    """By this Redis, in its own words; the file and the service are as they were. tests/e2e/operations has all services."""
    before = cluster.run(cluster.redis, f"sha256sum {file}")
    visitor = cluster.log_in(cluster.balancer)
    done = cluster.playbook("site.yml", "--tags", "redis", "-e", setting)
    assert done.returncode != 0
    assert words is None or words in done.stdout
    assert cluster.run(cluster.redis, f"sha256sum {file}") == before
    assert visitor.get(cluster.balancer).status_code == 200


def test_one_id_leads_from_the_answer_to_the_logs(cluster):
    """The balancer's line names the node, its address and the times; the node's journal has the same id."""
    answer = cluster.log_in(cluster.balancer).get(cluster.balancer)
    request_id, node = answer.headers["X-Request-ID"], answer.headers["X-Node"]
    find = f"grep {request_id} /var/log/nginx/access.log"
    line = json.loads(eventually(lambda: cluster.run(cluster.balancer, find, check=False)))
    assert line["node"] == node
    assert line["upstream"] == f"{cluster.address[node]}:8000"
    # Not compared: nginx reads two clocks, a millisecond apart.
    assert float(line["request_time"]) >= 0
    assert float(line["response_time"]) >= 0
    assert line["client"] not in cluster.address.values()
    # gunicorn writes its line after the answer, and the journal takes it in when it can.
    assert eventually(lambda: request_id in cluster.run(node, "journalctl -u anynode.service -o cat"))


def test_a_nodes_counters_begin_anew_with_it_and_are_for_the_node_alone(cluster):
    """Its processes are summed up, on a port that says nothing to the balancer and the other nodes."""
    scrape = "import urllib.request as url; print(url.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
    for host in cluster.apps:
        cluster.run(host, "systemctl restart anynode.service")
        for _ in range(3):
            assert cluster.visitor().get(host, "/").status_code == 200
        assert 'anynode_sessions_requests_total{session="none"} 3.0' in cluster.run(host, f'python3 -c "{scrape}"')
        assert cluster.visitor().get(host, "/metrics").status_code == 404
        for other in {cluster.balancer, *cluster.apps} - {host}:
            assert knock(partial(cluster.run, other), cluster.address[host], ports=[9464]) == {}


def test_the_documented_command_ends_a_users_sessions_on_all_nodes(cluster):
    """As docs/operate.md has it, typed on one node."""
    text = (ROOT / "docs/operate.md").read_text()
    command = re.search(r"^    (systemd-run .*? sessions )end-user ada$", text, re.MULTILINE | re.DOTALL)[1]
    host, user = cluster.apps[0], cluster.account["username"]
    visitor = cluster.log_in(cluster.apps[-1])
    assert cluster.apps[-1] in cluster.run(host, f"{command} list {user}")
    cluster.run(host, f"{command} end-user {user}")
    for door in cluster.doors:
        assert visitor.get(door).status_code == 401


def test_a_restart_of_the_app_makes_visitors_wait_and_refuses_nobody(cluster):
    """systemd holds the socket: a request that arrives while nothing runs is answered once something does."""
    host = cluster.apps[0]
    visitor = cluster.log_in(host)
    cluster.run(host, "systemctl restart --no-block anynode.service")
    for _ in range(50):
        assert visitor.get(host).status_code == 200


def test_a_node_lists_what_it_runs(cluster):
    """The bill of materials names the packages that Python finds in the release, and no others."""
    look = "import importlib.metadata as m; print([(p.name.lower(), p.version) for p in m.distributions(path=['.'])])"
    for host in cluster.apps:
        release = "/srv/anynode/current/release"
        listed = json.loads(cluster.run(host, f"cat {release}/sbom.cdx.json"))
        assert listed["metadata"]["component"]["version"] == cluster.run(host, f"cat {release}/RELEASE")
        installed = cluster.run(host, f'cd {release} && python3 -c "{look}"').replace("_", "-")
        assert {(each["name"], each["version"]) for each in listed["components"]} == set(literal_eval(installed))
