"""Processes, hosts and links fail under load; each test counts the failed requests."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from statistics import mode
from typing import Any

import pytest
import requests
from lib.cluster import Cluster, eventually
from lib.deployments import drained, pids
from lib.load.report import summary
from lib.load_fixtures import Load, assert_kept, assert_served_within


def docker(*command: str) -> None:
    """Run docker."""
    subprocess.run(["docker", *command], check=True, capture_output=True)


def log(cluster: Cluster, since: float) -> list[dict[str, Any]]:
    """Return the balancer's log lines from an epoch second on."""
    lines = cluster.run(cluster.balancer, "tail -n 20000 /var/log/nginx/access.log").splitlines()
    return [line for line in map(json.loads, lines) if float(line["at"]) >= since]


def test_fifty_reloads_of_nginx_go_unnoticed(cluster: Cluster, unnoticed: Callable[..., Load]) -> None:
    """New workers take over, old workers finish their requests."""
    with unnoticed("50 reloads of nginx"):
        for _ in range(50):
            cluster.run(cluster.balancer, "systemctl reload nginx")
            time.sleep(0.2)


def assert_only_their_writes_were_lost(
    cluster: Cluster, nodes: list[str], since: float, result: dict[str, Any]
) -> None:
    """Assert that other nodes answered the reads sent to these nodes, and that no write was sent twice.

    since: epoch seconds.
    """
    assert not result["by_method"]["GET"]["failures"], summary(result)
    assert not (result["sessions_lost"] or result["lost_writes"] or result["doubled_writes"]), summary(result)
    lost = [line for line in log(cluster, since) if line["status"] in ("503", "499")]
    assert {line["method"] for line in lost} <= {"POST"}
    assert {line["upstream"] for line in lost} <= {f"{cluster.address[node]}:8000" for node in nodes}
    assert sum(result["by_method"]["POST"]["failures"].values()) == len(lost), summary(result)


def workers(cluster: Cluster, node: str) -> list[str]:
    """Return the process of each connection, as the app's own user sees it: root can't in a container."""
    return re.findall(r"pid=(\d+)", cluster.run(node, "runuser -u anynode -- ss -Htnp 'sport = :8000'"))


def test_a_killed_worker_costs_at_most_its_own_requests(cluster: Cluster, under_load: Callable[..., Load]) -> None:
    """The busiest worker of each node in turn. It is stopped for a moment first, so that it holds some requests."""
    held, since = 0, time.time()
    with under_load("a gunicorn worker is killed") as run:
        for node in cluster.apps:
            time.sleep(2)
            worker = mode(workers(cluster, node))
            cluster.run(node, f"kill -STOP {worker}")
            time.sleep(0.3)
            held += workers(cluster, node).count(worker)  # it accepts no more
            cluster.run(node, f"kill -KILL {worker}")
        time.sleep(3)
    assert run.result
    assert_only_their_writes_were_lost(cluster, cluster.apps, since, run.result)
    assert run.result["failed"] <= min(held, 8 * len(cluster.apps)), summary(run.result)
    assert [line for line in log(cluster, since) if ", " in line["upstream"]], "no request was retried on another node"
    assert_served_within(run.result, 1)


def disconnect(cluster: Cluster, node: str) -> list[str]:
    """Disconnect a host from its network; return the command that connects it again."""
    name = f"{cluster.prefix}-{node}"
    template = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}"
    network = subprocess.run(
        ["docker", "inspect", "--format", template, name], check=True, capture_output=True, text=True
    ).stdout.strip()
    docker("network", "disconnect", network, name)
    return ["network", "connect", "--ip", cluster.address[node], network, name]


@pytest.mark.parametrize("fault", ["killed", "frozen", "disconnected"])
def test_a_failed_node_costs_only_the_writes_that_it_was_sent(
    cluster: Cluster, under_load: Callable[..., Load], fault: str
) -> None:
    """Other nodes answer the reads that it was sent."""
    node, since = cluster.apps[0], time.time()
    name, repair = f"{cluster.prefix}-{node}", []
    try:
        with under_load(f"a node is {fault}") as run:
            time.sleep(3)
            if fault == "killed":
                docker("kill", name)
                repair = ["start", name]
            elif fault == "frozen":
                docker("pause", name)
                repair = ["unpause", name]
            else:
                repair = disconnect(cluster, node)
            time.sleep(15)
    finally:
        docker(*repair)
    assert run.result
    assert_only_their_writes_were_lost(cluster, [node], since, run.result)
    assert_served_within(run.result, 2)
    assert eventually(lambda: cluster.run(node, "systemctl is-active anynode", check=False) == "active", seconds=60)


def test_a_restart_of_redis_is_announced_and_loses_nothing(cluster: Cluster, under_load: Callable[..., Load]) -> None:
    """Meanwhile 503 with Retry-After and no other error; writes acknowledged before it are kept."""
    with under_load("Redis is restarted") as run:
        time.sleep(3)
        event = time.time()
        cluster.run(cluster.redis, "systemctl restart redis-server")
        time.sleep(3)
    assert run.result
    assert set(run.result["failures"]) <= {"503 announced"}, summary(run.result)
    assert_kept(run.result, event)


def test_a_changed_setting_of_redis_costs_no_more_than_its_restart(
    cluster: Cluster, under_load: Callable[..., Load]
) -> None:
    """By site.yml, which restarts Redis and nothing else."""
    before = pids(cluster, *cluster.apps)
    with under_load("a setting of Redis changes") as run:
        event = time.time()
        cluster.converge("-e", "redis_maxmemory=100mb")
    assert run.result
    assert set(run.result["failures"]) <= {"503 announced"}, summary(run.result)
    assert_kept(run.result, event)
    assert pids(cluster, *cluster.apps) == before


def test_all_hosts_reboot_at_once(cluster: Cluster, under_load: Callable[..., Load]) -> None:
    """All services return without Ansible, and writes acknowledged before are kept."""
    with under_load("all hosts reboot at once") as run:
        time.sleep(3)
        event = time.time()
        docker("restart", "--time=30", *(f"{cluster.prefix}-{host}" for host in cluster.address))
        assert eventually(lambda: is_served(cluster), seconds=90)
        time.sleep(3)
    assert run.result
    assert_kept(run.result, event)
    assert drained(cluster) == []


def is_served(cluster: Cluster) -> bool:
    """Return whether the balancer answers with a node's answer."""
    try:
        return cluster.client().get(cluster.balancer, "/readyz").status_code == 200
    except requests.RequestException:
        return False
