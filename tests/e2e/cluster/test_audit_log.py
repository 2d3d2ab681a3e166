"""Every machine says which runs changed it."""

import json

import pytest
from lib.cluster import changed

LOG = "/var/log/anynode/audit.log"


def lines(cluster, host):
    """The lines of a machine's log of runs."""
    return [json.loads(line) for line in cluster.run(host, f"cat {LOG} 2>/dev/null || true").splitlines()]


def counts(cluster):
    """How many lines each machine has."""
    return {host: len(lines(cluster, host)) for host in cluster.address}


def test_a_run_that_changes_a_node_leaves_a_line_there_and_nowhere_else(cluster):
    """Who, from where, when, what, which run, which release; no extra variable, since it may be a secret."""
    host = cluster.apps[0]
    cluster.run(host, "rm /etc/logrotate.d/anynode")
    before = counts(cluster)
    cluster.converge("--tags", "common", "-e", "any=thing")
    after = counts(cluster)
    assert after == before | {host: before[host] + 1}
    line = lines(cluster, host)[-1]
    assert line["release"] == cluster.visitor().get(host, "/readyz").headers["X-Release"]
    assert line["by"].endswith(f"@{line['from']}")
    assert "site.yml --tags common" in line["what"]
    assert "thing" not in line["what"]
    assert set(changed(cluster.converge("--tags", "common")).values()) == {0}
    assert counts(cluster) == after


@pytest.fixture(scope="module")
def settings(cluster):
    """Settings of the app may be others; put right afterwards."""
    yield
    cluster.converge("--tags", "app")


def test_a_setting_that_rolls_through_leaves_one_line_on_each_node_and_on_the_balancer(cluster, settings):
    """The balancer was only changed on behalf of the nodes."""
    before = counts(cluster)
    cluster.converge("--tags", "app", "-e", "app_threads=7")
    after = counts(cluster)
    assert after == {host: count + (host != cluster.redis) for host, count in before.items()}
    assert {lines(cluster, host)[-1]["run"] for host in cluster.doors} == {
        cluster.visitor().get(cluster.apps[0], "/readyz").headers["X-Deployment"]
    }


def test_a_run_that_fails_after_it_changed_a_node_leaves_its_line_too(cluster, settings):
    """The first node never becomes ready with this setting, and is put back."""
    first = cluster.apps[0]
    before = len(lines(cluster, first))
    done = cluster.playbook("site.yml", "--tags", "app", "-e", "app_redis_port=1", "-e", "app_start_seconds=10")
    assert done.returncode != 0
    assert "with these settings does not work" in done.stdout
    assert len(lines(cluster, first)) == before + 1
