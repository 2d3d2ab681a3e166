"""One id leads to what all machines wrote about a request."""

import re

from lib.cluster import changed, eventually


def find(cluster, request_id):
    """Run the playbook; return whether it succeeded, and what it printed."""
    done = cluster.playbook("playbooks/logs.yml", "-e", f"request_id={request_id}")
    return done.returncode == 0, done.stdout + done.stderr


def machines(output):
    """The machines of the lines about a request, in their order."""
    return re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z  (\S+)", output, re.MULTILINE)


def test_a_request_is_found_on_the_balancer_and_on_its_node(cluster):
    """Nothing is changed; the line is found again once the log was rotated and packed."""
    answer = cluster.visitor().get(cluster.balancer, "/readyz")
    request_id, node = answer.headers["X-Request-ID"], answer.headers["X-Node"]
    assert eventually(lambda: request_id in cluster.run(node, "journalctl -u anynode.service -o cat"))
    _ok, output = find(cluster, request_id)
    assert sorted(machines(output)) == sorted([cluster.balancer, node])
    assert set(changed(output).values()) == {0}
    log = "/var/log/nginx/access.log"
    cluster.run(cluster.balancer, f"grep {request_id} {log} | gzip > {log}.9.gz; sed -i /{request_id}/d {log}")
    try:
        _ok, output = find(cluster, request_id)
        assert cluster.balancer in machines(output)
    finally:
        cluster.run(cluster.balancer, f"rm {log}.9.gz; nginx -s reopen")


def test_what_nginx_says_of_a_node_that_is_away_is_found(cluster):
    """Its error log knows no ids."""
    host = cluster.apps[0]
    cluster.run(host, "systemctl stop anynode.socket anynode.service")
    try:
        answers = [cluster.visitor().get(cluster.balancer, "/readyz") for _ in range(2 * len(cluster.apps))]
    finally:
        cluster.run(host, "systemctl start anynode.socket anynode.service")
    assert {answer.status_code for answer in answers} == {200}
    tried = f'"upstream":"{cluster.address[host]}:8000, '
    log = cluster.run(cluster.balancer, "cat /var/log/nginx/access.log")
    (request_id, *_) = [
        answer.headers["X-Request-ID"]
        for answer in answers
        if re.search(f".*{answer.headers['X-Request-ID']}.*{re.escape(tried)}", log)
    ]
    _ok, output = find(cluster, request_id)
    assert machines(output)[0] == cluster.balancer
    assert "connect() failed (111: Connection refused) while connecting to upstream" in output


def test_a_request_that_nobody_knows(cluster):
    """It is said where was looked."""
    ok, output = find(cluster, "0" * 32)
    assert ok
    assert f"Nothing is known of request {'0' * 32}. Looked in:" in output
    for host in (cluster.balancer, *cluster.apps):
        assert f"  {host}: " in output


def test_what_is_no_id_is_refused(cluster):
    ok, output = find(cluster, "'; reboot'")
    assert not ok
    assert "is not the id of a request" in " ".join(output.split())
