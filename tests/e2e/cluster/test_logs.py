"""One id finds the lines that all hosts wrote about a request."""

import re

from lib.cluster import Cluster, Run, eventually


def find(cluster: Cluster, request_id: str) -> Run:
    """Run the playbook, which must succeed."""
    run = cluster.playbook("playbooks/logs.yml", "-e", f"request_id={request_id}")
    assert run.ok, run.output
    return run


def hosts(output: str) -> list[str]:
    """Return the hosts of the lines about a request, in their order."""
    return re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z  (\S+)", output, re.MULTILINE)


def test_a_request_is_found_on_the_balancer_and_on_its_node(cluster: Cluster) -> None:
    """Although the balancer's log was rotated and compressed. Nothing is changed."""
    answer = cluster.client().get(cluster.balancer, "/readyz")
    request_id, node = answer.headers["X-Request-ID"], answer.headers["X-Node"]
    assert eventually(lambda: request_id in cluster.run(node, "journalctl -u anynode.service -o cat"))
    log = "/var/log/nginx/access.log"
    cluster.run(cluster.balancer, f"grep {request_id} {log} | gzip > {log}.9.gz; sed -i /{request_id}/d {log}")
    try:
        run = find(cluster, request_id)
        assert sorted(hosts(run.output)) == sorted([cluster.balancer, node])
        assert run.idempotent
    finally:
        cluster.run(cluster.balancer, f"rm {log}.9.gz; nginx -s reopen")


def test_nginx_errors_about_a_stopped_node_are_found(cluster: Cluster) -> None:
    """nginx's error log has no request ids."""
    host = cluster.apps[0]
    cluster.run(host, "systemctl stop anynode.socket anynode.service")
    try:
        answers = [cluster.client().get(cluster.balancer, "/readyz") for _ in range(2 * len(cluster.apps))]
    finally:
        cluster.run(host, "systemctl start anynode.socket anynode.service")
    assert {answer.status_code for answer in answers} == {200}
    retried = f'"upstream":"{cluster.address[host]}:8000, '
    log = cluster.run(cluster.balancer, "cat /var/log/nginx/access.log")
    (request_id, *_) = [
        answer.headers["X-Request-ID"]
        for answer in answers
        if re.search(f".*{answer.headers['X-Request-ID']}.*{re.escape(retried)}", log)
    ]
    run = find(cluster, request_id)
    assert hosts(run.output)[0] == cluster.balancer
    assert "connect() failed (111: Connection refused) while connecting to upstream" in run.output


def test_an_unknown_request_is_reported_with_the_searched_hosts(cluster: Cluster) -> None:
    run = find(cluster, "0" * 32)
    assert "0" * 32 in run.output
    for host in (cluster.balancer, *cluster.apps):
        assert f"  {host}: " in run.output
