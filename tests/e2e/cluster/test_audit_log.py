"""Each host logs the runs that changed it."""

from __future__ import annotations

import json

from lib.cluster import Cluster
from lib.deployments import audit_log, completed_operations


def test_a_run_is_logged_on_the_hosts_that_it_changed_and_nowhere_else(cluster: Cluster) -> None:
    """By which operator, from where, when, what, which deployment and release; without extra variables: may be secrets.

    The same run repairs two hosts: a file was removed on the first, updates were disabled, but not masked, on the last.
    A run without a change is asserted in test_partial_runs.py.
    """
    host, other, timer = cluster.apps[0], cluster.apps[-1], "apt-daily-upgrade.timer"
    cluster.run(host, "rm /etc/logrotate.d/anynode")
    cluster.run(other, f"systemctl unmask {timer} && systemctl disable {timer}")
    before = completed_operations(cluster)
    try:
        cluster.converge("--tags", "common", "-e", "any=thing")
        assert cluster.run(other, f"systemctl is-enabled {timer}; systemctl is-active {timer}") == "enabled\nactive"
    finally:
        cluster.run(other, f"systemctl disable --now {timer}; systemctl mask {timer}")
    assert completed_operations(cluster) == before | {each: before[each] + 1 for each in (host, other)}
    entry = audit_log(cluster, host)[-1]
    assert entry["release"] == cluster.client().get(host, "/readyz").headers["X-Release"]
    assert entry["by"].endswith(f"@{entry['from']}")
    assert "site.yml --tags common" in entry["what"]
    assert "thing" not in json.dumps(entry)


def test_a_failed_run_is_logged_where_it_changed_a_node(cluster: Cluster) -> None:
    """The first node never becomes ready with this setting, and is restored."""
    # Port 1: not the source port of tests/lib/port_scan.py, whose probes would be taken for answers to the node.
    first = cluster.apps[0]
    before = len(audit_log(cluster, first))
    run = cluster.playbook("site.yml", "--tags", "app", "-e", "app_redis_port=1", "-e", "app_start_seconds=5")
    assert not run.ok
    assert "with these settings" in run.words
    assert len(audit_log(cluster, first)) == before + 1
