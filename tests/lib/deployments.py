"""Deployments as the balancer, the app nodes and the audit logs report them."""

from __future__ import annotations

import json
from typing import Any

from lib.cluster import Cluster


def drained(cluster: Cluster) -> list[str]:
    """Return the drained nodes, as the balancer's state has them."""
    state = json.loads(cluster.run(cluster.balancer, "cat /var/lib/anynode/upstream.json"))
    return [node for node, entry in state["nodes"].items() if entry["drained"]]


def releases(cluster: Cluster) -> dict[str, str]:
    """Return the release that each node answers with."""
    return {host: cluster.client().get(host, "/healthz").headers["X-Release"] for host in cluster.apps}


def deployment_ids(cluster: Cluster) -> dict[str, str]:
    """Return the id of the deployment that each node runs."""
    return {host: cluster.client().get(host, "/healthz").headers["X-Deployment"] for host in cluster.apps}


def pids(cluster: Cluster, *hosts: str) -> list[str]:
    """Return the main process of the app on each of these nodes."""
    show = "systemctl show --value --property MainPID anynode.service"
    return [cluster.run(host, show) for host in hosts]


def audit_log(cluster: Cluster, host: str) -> list[dict[str, Any]]:
    """Return the entries of a host's audit log."""
    lines = cluster.run(host, "cat /var/log/anynode/audit.log 2>/dev/null || true").splitlines()
    return [json.loads(line) for line in lines]


def completed_operations(cluster: Cluster) -> dict[str, int]:
    """Return the number of completed operations in each host's audit log.

    A run also records operations before it that were interrupted.
    """
    return {host: sum("ended" not in line for line in audit_log(cluster, host)) for host in cluster.address}
