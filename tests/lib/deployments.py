"""What the balancer and the nodes say about releases, and who is in."""

import re


def out(cluster):
    """The nodes that the balancer leaves out."""
    return re.findall(r" down; +# (\S+)", cluster.run(cluster.balancer, "cat /etc/nginx/upstream.conf"))


def releases(cluster):
    """The release that each node answers with."""
    return {host: cluster.visitor().get(host, "/healthz").headers["X-Release"] for host in cluster.apps}


def runs(cluster):
    """The run that put it there."""
    return {host: cluster.visitor().get(host, "/healthz").headers["X-Deployment"] for host in cluster.apps}


def pids(cluster, *hosts):
    """The process that serves on each of these nodes."""
    show = "systemctl show --value --property MainPID anynode.service"
    return [cluster.run(host, show) for host in hosts]
