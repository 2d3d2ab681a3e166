"""Certificates that a run renews."""

from support.cluster import changed, eventually


def test_a_renewed_certificate_is_shown_by_the_same_process(cluster):
    """By Redis and by nginx; neither is restarted, and a visitor's session is where it was."""
    visitor = cluster.log_in(cluster.balancer)
    ports = {cluster.redis: 6379, cluster.balancer: 443}

    def shown():
        ask = "echo | openssl s_client -connect {}:{} 2>/dev/null | openssl x509 -noout -serial"
        return {host: cluster.run(host, ask.format(cluster.address[host], port)) for host, port in ports.items()}

    def masters():
        units = {cluster.redis: "redis-server", cluster.balancer: "nginx"}
        return {host: cluster.run(host, f"systemctl show --value -p MainPID {unit}") for host, unit in units.items()}

    before, of = shown(), masters()
    output = cluster.converge("--tags", "certificates,redis,nginx", "-e", "certificates_renew=true")
    assert eventually(lambda: not set(shown().values()) & set(before.values()))
    assert masters() == of
    assert {host for host, count in changed(output).items() if count} == set(ports)
    assert visitor.get(cluster.balancer).status_code == 200
    assert set(changed(cluster.converge("--tags", "certificates,redis,nginx")).values()) == {0}
