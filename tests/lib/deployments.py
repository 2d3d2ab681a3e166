"""Deployments as the balancer and the app nodes report them."""

import json

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
