"""Maintenance: visitors are told, those who deploy get in, and nothing else notices."""

import pytest
from lib.cluster import changed

FILE = "/etc/nginx/maintenance.conf"
MASTER = "systemctl show --value --property MainPID nginx.service"


def switch(cluster, state, *arguments):
    """Run the playbook, which must succeed; return its output."""
    done = cluster.playbook("playbooks/maintenance.yml", "-e", f"state={state}", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def announced(cluster):
    """A visitor who was logged in before, and what the playbook printed; maintenance is off afterwards."""
    visitor, master = cluster.log_in(cluster.balancer), cluster.run(cluster.balancer, MASTER)
    try:
        yield visitor, switch(cluster, "on", "-e", "reason='new database'")
    finally:
        output = switch(cluster, "off")
    assert "Maintenance is off" in output
    assert visitor.get(cluster.balancer).json()["user"] == cluster.account["username"]
    assert cluster.run(cluster.balancer, MASTER) == master
    assert set(changed(switch(cluster, "off")).values()) == {0}


@pytest.mark.parametrize(("accept", "kind"), [("application/json", "application/json"), ("text/html", "text/html")])
@pytest.mark.parametrize("path", ["/", "/api/session", "/healthz"])
def test_visitors_are_told_and_nodes_know_them_still(cluster, announced, accept, kind, path):
    """503 with Retry-After and the request's id: a page to people, JSON to programs."""
    visitor, _output = announced
    answer = visitor.get(cluster.balancer, path, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, kind)
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["X-Request-ID"] in answer.text
    assert "We are working on this site" in answer.text
    assert "new database" not in answer.text
    for host in cluster.apps:
        assert visitor.get(host).status_code == 200


def test_the_address_in_the_summary_lets_its_reader_in(cluster, announced):
    """It gives a cookie that scripts can't read, and is not logged; a wrong key gives nothing."""
    visitor, output = announced
    key = cluster.secret("nginx_maintenance_bypass_token")
    assert f"/.balancer/enter/{key}" in output
    answer = cluster.visitor().get(cluster.balancer, f"/.balancer/enter/{key}", allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
    answer = visitor.get(cluster.balancer, headers={"Cookie": f"{visitor.cookie}; {cookie}"})
    assert answer.json()["user"] == cluster.account["username"]
    answer = cluster.visitor().get(cluster.balancer, "/.balancer/enter/wrong", allow_redirects=False)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (404, False)
    assert visitor.get(cluster.balancer, headers={"Cookie": "maintenance=wrong"}).status_code == 503
    assert cluster.run(cluster.balancer, f"grep -rlE '{key}|balancer/enter' /var/log/nginx || true") == ""


def test_runs_leave_it_on_say_so_and_get_in(cluster, announced):
    """The login check passes through the balancer; who announced it first stays named."""
    before = cluster.run(cluster.balancer, f"cat {FILE}")
    output = cluster.converge("--tags", "nginx,check")
    assert set(changed(output).values()) == {0}
    assert "through the balancer, on " in output
    assert "Maintenance is on since " in output
    assert set(changed(switch(cluster, "on", "-e", "reason=other")).values()) == {0}
    assert cluster.run(cluster.balancer, f"cat {FILE}") == before


def test_a_configuration_that_nginx_refuses_stays_out(cluster, announced):
    """With nginx's own words, and with the file as it was."""
    cluster.run(cluster.balancer, "cp -p /etc/nginx/nginx.conf /root/ && echo 'banana;' >>/etc/nginx/nginx.conf")
    before = cluster.run(cluster.balancer, f"cat {FILE}")
    try:
        done = cluster.playbook("playbooks/maintenance.yml", "-e", "state=off")
        assert done.returncode != 0
        assert 'unknown directive "banana"' in done.stdout
        assert cluster.run(cluster.balancer, f"cat {FILE}") == before
    finally:
        cluster.run(cluster.balancer, "mv /root/nginx.conf /etc/nginx/")


def test_a_state_that_is_none_is_refused(cluster):
    done = cluster.playbook("playbooks/maintenance.yml", "-e", "state=maybe")
    assert done.returncode != 0
    assert "maybe is no state; nothing was changed." in done.stdout
