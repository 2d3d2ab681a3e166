"""A login on any node is valid on all nodes; and the session check can fail."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator

import pytest
from lib.cluster import Cluster
from lib.deployments import audit_log, completed_operations

LIMIT = 10  # app_login_failures


def test_a_login_on_any_node_is_valid_on_every_other_node(cluster: Cluster) -> None:
    """The session check reports each node and the balancer, and changes nothing."""
    run = cluster.playbook("playbooks/verify.yml")
    assert run.ok, run.output
    for host in cluster.apps:
        assert f"{host}: login, read on {len(cluster.apps) - 1} other node" in run.output
    assert f"through the balancer, on {', '.join(cluster.apps)}: ok" in run.output
    assert run.idempotent


def test_a_browser_gets_pages(cluster: Cluster) -> None:
    """Through the balancer: a login form, and then a page with the user and the node that answered."""
    client = cluster.client()
    page = client.get(cluster.balancer, "/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert 'name="password"' in page.text
    client = cluster.log_in(cluster.balancer)
    page = client.get(cluster.balancer, "/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "demo" in page.text
    assert page.headers["X-Node"] in page.text


def test_guessing_is_limited_on_all_hosts_and_no_other_user_is(cluster: Cluster) -> None:
    """The nodes count failures together: after ten failures on different nodes, 429; the demo user logs in."""
    guess = {"username": f"nobody-{secrets.token_hex(4)}", "password": "wrong"}
    hosts = itertools.cycle(cluster.apps)
    answers = [cluster.client().post(next(hosts), "/api/login", guess) for _ in range(LIMIT)]
    assert [answer.status_code for answer in answers] == [401] * LIMIT
    for host in cluster.http_hosts:
        answer = cluster.client().post(host, "/api/login", guess)
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 1
        assert answer.json()["error"]
        cluster.log_in(host)


@pytest.fixture(scope="module")
def memory_mode(cluster: Cluster) -> Iterator[dict[str, int]]:
    """Sessions in each node's own memory, as if there were no Redis; yields the audit log's counts before.

    It lasts until the end of this file, so the tests with it come last.
    """
    before = completed_operations(cluster)
    try:
        cluster.converge(
            "--tags", "app", "-e", "app_session_store=memory", "-e", "app_workers=1", "-e", "app_soak_seconds=0"
        )
        yield before
    finally:
        cluster.converge("--tags", "app", "-e", "app_soak_seconds=0")


def test_a_setting_of_the_app_is_logged_on_each_node_and_on_the_balancer(
    cluster: Cluster, memory_mode: dict[str, int]
) -> None:
    """The balancer changed on behalf of the nodes; Redis did not change."""
    assert completed_operations(cluster) == {
        host: count + (host != cluster.redis) for host, count in memory_mode.items()
    }
    deployment = cluster.client().get(cluster.apps[0], "/healthz").headers["X-Deployment"]
    for host in cluster.http_hosts:
        assert deployment in audit_log(cluster, host)[-1].values()


def test_the_session_check_fails_without_a_shared_store(cluster: Cluster, memory_mode: dict[str, int]) -> None:
    """The negative control: each message names the nodes of a login that was not shared."""
    run = cluster.playbook("playbooks/verify.yml")
    assert not run.ok
    first, second = cluster.apps[:2]
    assert f"{first}: logged in on {first}, unknown on {second}" in run.words
    assert f"{second}: logged in on {second}, unknown on {first}" in run.words
    assert "through the balancer: logged in on" in run.words
