"""Processes, machines and links break while visitors are there; each is told by count what that cost."""

import json
import re
import subprocess
import time
from statistics import mode

import pytest
import requests
from lib.cluster import eventually
from lib.deployments import out, pids
from lib.load.report import summary
from lib.load_fixtures import assert_kept, assert_served_within

pytestmark = pytest.mark.usefixtures("repaired")


def engine(*command):
    """Let the container engine do something to machines."""
    subprocess.run(["docker", *command], check=True, capture_output=True)


def log(cluster, since):
    """The balancer's log lines from an epoch second on."""
    lines = cluster.run(cluster.balancer, "tail -n 20000 /var/log/nginx/access.log").splitlines()
    return [line for line in map(json.loads, lines) if float(line["at"]) >= since]


def test_fifty_reloads_of_nginx_go_unnoticed(cluster, unnoticed):
    """New workers take over, old ones finish what they hold."""
    with unnoticed("50 reloads of nginx"):
        for _ in range(50):
            cluster.run(cluster.balancer, "systemctl reload nginx")
            time.sleep(0.2)


def assert_only_their_writes_were_lost(cluster, nodes, since, result):
    """Other nodes answer what these were asked to read; a write is never sent twice. since: epoch seconds."""
    assert not result["by_method"]["GET"]["failures"], summary(result)
    assert not (result["sessions_lost"] or result["lost_writes"] or result["doubled_writes"]), summary(result)
    lost = [line for line in log(cluster, since) if line["status"] in ("503", "499")]
    assert {line["method"] for line in lost} <= {"POST"}
    assert {line["upstream"] for line in lost} <= {f"{cluster.address[node]}:8000" for node in nodes}
    assert sum(result["by_method"]["POST"]["failures"].values()) == len(lost), summary(result)


def workers(cluster, node):
    """Whose each connection is, as the app's own account sees it: root may not look into it in a container."""
    return re.findall(r"pid=(\d+)", cluster.run(node, "runuser -u anynode -- ss -Htnp 'sport = :8000'"))


def test_a_killed_worker_costs_at_most_what_it_held(cluster, visitors):
    """The busiest one of each node in turn; it stands still for a moment before, or it would hold nothing."""
    held, since = 0, time.time()
    with visitors("a gunicorn worker is killed") as run:
        for node in cluster.apps:
            time.sleep(2)
            worker = mode(workers(cluster, node))
            cluster.run(node, f"kill -STOP {worker}")
            time.sleep(0.3)
            held += workers(cluster, node).count(worker)  # it accepts no more
            cluster.run(node, f"kill -KILL {worker}")
        time.sleep(3)
    assert_only_their_writes_were_lost(cluster, cluster.apps, since, run.result)
    assert run.result["failed"] <= min(held, 8 * len(cluster.apps)), summary(run.result)
    went_on = [line for line in log(cluster, since) if ", " in line["upstream"]]
    assert went_on, "they held nothing that others could answer"
    assert_served_within(run.result, 1)


def disconnect(cluster, node):
    """Take a machine off its network."""
    name = f"{cluster.prefix}-{node}"
    template = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}"
    network = subprocess.run(
        ["docker", "inspect", "--format", template, name], check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["docker", "network", "disconnect", network, name], check=True)
    return ["network", "connect", "--ip", cluster.address[node], network, name]


BROKEN = {
    "killed": (lambda cluster, node: engine("kill", f"{cluster.prefix}-{node}"), "start"),
    "frozen": (lambda cluster, node: engine("pause", f"{cluster.prefix}-{node}"), "unpause"),
    "cut off": (disconnect, None),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_node_costs_only_the_writes_that_it_was_sent(cluster, visitors, how):
    """The others answer what it was asked to read."""
    node, since = cluster.apps[0], time.time()
    hurt, heal = BROKEN[how]
    try:
        with visitors(f"a node is {how}") as run:
            time.sleep(3)
            undo = hurt(cluster, node)
            time.sleep(15)
    finally:
        engine(*(undo if heal is None else [heal, f"{cluster.prefix}-{node}"]))
    assert_only_their_writes_were_lost(cluster, [node], since, run.result)
    assert_served_within(run.result, 2)
    assert eventually(lambda: cluster.run(node, "systemctl is-active anynode", check=False) == "active", seconds=60)


def test_a_restart_of_redis_is_announced_and_loses_nothing(cluster, visitors):
    """503 with Retry-After while it is away and nothing else; what was acknowledged before is there."""
    with visitors("Redis is restarted") as run:
        time.sleep(3)
        event = time.time()
        cluster.run(cluster.redis, "systemctl restart redis-server")
        time.sleep(3)
    assert set(run.result["failures"]) <= {"503 announced"}, summary(run.result)
    assert_kept(run.result, event)


def test_a_changed_setting_of_redis_is_no_more_than_its_restart(cluster, visitors):
    """By site.yml, which restarts Redis and nothing else."""
    before = pids(cluster, *cluster.apps)
    with visitors("a setting of Redis changes") as run:
        event = time.time()
        cluster.converge("-e", "redis_maxmemory=100mb")
    assert set(run.result["failures"]) <= {"503 announced"}, summary(run.result)
    assert_kept(run.result, event)
    assert pids(cluster, *cluster.apps) == before


def test_all_machines_reboot_at_once(cluster, visitors):
    """All services come back by themselves, and what was acknowledged is there."""
    with visitors("all machines reboot at once") as run:
        time.sleep(3)
        event = time.time()
        engine("restart", "--time=30", *(f"{cluster.prefix}-{host}" for host in cluster.address))
        assert eventually(lambda: reached(cluster), seconds=90)
        time.sleep(3)
    assert_kept(run.result, event)
    assert out(cluster) == []


def reached(cluster):
    """Whether a visitor is served through the balancer."""
    try:
        return cluster.visitor().get(cluster.balancer, "/readyz").status_code == 200
    except requests.RequestException:
        return False
