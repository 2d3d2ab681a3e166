"""Processes, machines and links break while visitors are there; each is told by count what that cost."""

import json
import subprocess
import time

from support.cluster import eventually
from support.nodes import pids

from bench.load.report import summary


def engine(cluster, command, host):
    """Let the container engine do something to a machine."""
    subprocess.run(["docker", *command.split(), f"{cluster.prefix}-{host}"], check=True, capture_output=True)


def log(cluster, since):
    """The balancer's log lines from an epoch second on."""
    lines = cluster.run(cluster.balancer, "tail -n 20000 /var/log/nginx/access.log").splitlines()
    return [line for line in map(json.loads, lines) if float(line["at"]) >= since]


def test_fifty_reloads_of_nginx_go_unnoticed(cluster, unnoticed):
    """New workers take over, old ones finish what they hold."""
    with unnoticed():
        for _ in range(50):
            cluster.run(cluster.balancer, "systemctl reload nginx")
            time.sleep(0.2)


def test_a_killed_worker_costs_at_most_what_it_held(cluster, visitors):
    """gunicorn has eight requests of each process under way at most; nginx asks another node for the GETs."""
    with visitors() as run:
        time.sleep(3)
        master = pids(cluster, cluster.apps[0])[0]
        cluster.run(cluster.apps[0], f"pkill --signal KILL --oldest --parent {master}")
        time.sleep(3)
    result = run.result
    assert result["failed"] <= 8, summary(result)
    assert not result["by_method"]["GET"]["failures"], summary(result)
    assert not (result["sessions_lost"] or result["lost_writes"] or result["doubled_writes"]), summary(result)


def test_a_killed_node_costs_only_what_it_was_at_work_on(cluster, visitors):
    """Other nodes answer what it was asked to read, unless half the answer was out; a write is never sent twice."""
    node = cluster.apps[0]
    since = time.time()
    try:
        with visitors() as run:
            time.sleep(3)
            engine(cluster, "kill", node)
            time.sleep(5)
    finally:
        engine(cluster, "start", node)
    result = run.result
    assert set(result["failures"]) <= {"503 announced", "cut short"}, summary(result)
    assert result["failed"] <= 20, summary(result)  # so many visitors there are
    assert not (result["sessions_lost"] or result["lost_writes"] or result["doubled_writes"]), summary(result)
    lost = [line for line in log(cluster, since) if line["status"] == "503"]
    assert {line["method"] for line in lost} <= {"POST"}
    assert all(line["upstream"].startswith(cluster.address[node]) for line in lost)
    assert result["failures"].get("503 announced", 0) == len(lost)
    assert eventually(lambda: cluster.run(node, "systemctl is-active anynode", check=False) == "active", seconds=60)


def test_a_restart_of_redis_is_announced_and_loses_nothing(cluster, visitors):
    """503 with Retry-After while it is away and nothing else; what was acknowledged before is there."""
    with visitors() as run:
        time.sleep(3)
        cluster.run(cluster.redis, "systemctl restart redis-server")
        time.sleep(3)
    result = run.result
    assert set(result["failures"]) <= {"503 announced"}, summary(result)
    assert not (result["sessions_lost"] or result["doubled_writes"]), summary(result)
    assert all(each["acknowledged"] > each["seen"] - 1 for each in result["lost_writes_found"]), summary(result)
    print(f"no request was served for {result['longest_without_success']['seconds']:.1f} s")
