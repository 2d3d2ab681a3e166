"""Maintenance mode: clients get 503 with a page, operators bypass it, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lib.cluster import Client, Cluster, Run

STATE = "/var/lib/anynode/maintenance.json"
MAIN_PID = "systemctl show --value --property MainPID nginx.service"
Enabled = tuple[Client, Run]


def switch(cluster: Cluster, state: str, *arguments: str) -> Run:
    """Enable or disable maintenance mode, which must succeed."""
    run = cluster.playbook("playbooks/maintenance.yml", "-e", f"state={state}", *arguments)
    assert run.ok, run.output
    return run


@pytest.fixture(scope="module")
def enabled(cluster: Cluster) -> Iterator[Enabled]:
    """Maintenance mode for the tests of this file; yields a client that was logged in before, and the run."""
    client, main_pid = cluster.log_in(cluster.balancer), cluster.run(cluster.balancer, MAIN_PID)
    try:
        yield client, switch(cluster, "on", "-e", "reason='new database'")
    finally:
        switch(cluster, "off")
    assert client.get(cluster.balancer).json()["user"] == cluster.account["username"]
    assert cluster.run(cluster.balancer, MAIN_PID) == main_pid


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
@pytest.mark.parametrize("path", ["/", "/api/session", "/healthz"])
def test_clients_get_503_and_sessions_remain(cluster: Cluster, enabled: Enabled, kind: str, path: str) -> None:
    """With Retry-After and the request's id: a page for browsers, JSON for programs. The reason is not published."""
    client, _run = enabled
    answer = client.get(cluster.balancer, path, headers={"Accept": kind})
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, kind)
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["X-Request-ID"] in answer.text
    assert "We are working on this site" in answer.text
    assert "new database" not in answer.text
    for host in cluster.apps:
        assert client.get(host).status_code == 200


def test_the_url_in_the_summary_bypasses_maintenance_mode(cluster: Cluster, enabled: Enabled) -> None:
    """It sets a cookie that scripts can't read, and is not logged; a wrong token sets no cookie."""
    client, run = enabled
    token = cluster.secret("nginx_maintenance_bypass_token")
    assert f"/.balancer/bypass/{token}" in run.output
    answer = cluster.client().get(cluster.balancer, f"/.balancer/bypass/{token}", allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert cookie.startswith("maintenance_bypass=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
    answer = client.get(cluster.balancer, headers={"Cookie": f"{client.cookie}; {cookie}"})
    assert answer.json()["user"] == cluster.account["username"]
    answer = cluster.client().get(cluster.balancer, "/.balancer/bypass/wrong", allow_redirects=False)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (404, False)
    assert client.get(cluster.balancer, headers={"Cookie": "maintenance_bypass=wrong"}).status_code == 503
    assert cluster.run(cluster.balancer, f"grep -rlE '{token}|balancer/bypass' /var/log/nginx || true") == ""


def test_site_yml_leaves_it_enabled_and_the_session_check_bypasses_it(cluster: Cluster, enabled: Enabled) -> None:
    """The run reports it. The first reason stays when it is enabled again."""
    before = cluster.run(cluster.balancer, f"cat {STATE}")
    assert "new database" in before
    run = cluster.converge("--tags", "nginx,verify")
    assert run.idempotent, run.output
    assert "through the balancer, on " in run.output
    assert "new database" in run.output
    assert switch(cluster, "on", "-e", "reason=other").idempotent
    assert cluster.run(cluster.balancer, f"cat {STATE}") == before


def test_a_configuration_that_nginx_refuses_is_not_loaded(cluster: Cluster, enabled: Enabled) -> None:
    """With nginx's own message; maintenance mode stays enabled."""
    client, _run = enabled
    cluster.run(cluster.balancer, "cp -p /etc/nginx/nginx.conf /root/ && echo 'banana;' >>/etc/nginx/nginx.conf")
    before = cluster.run(cluster.balancer, f"cat {STATE} /etc/nginx/maintenance.conf")
    try:
        run = cluster.playbook("playbooks/maintenance.yml", "-e", "state=off")
        assert not run.ok
        assert 'unknown directive "banana"' in run.words
        assert cluster.run(cluster.balancer, f"cat {STATE} /etc/nginx/maintenance.conf") == before
    finally:
        cluster.run(cluster.balancer, "mv /root/nginx.conf /etc/nginx/")
    assert client.get(cluster.balancer).status_code == 503
