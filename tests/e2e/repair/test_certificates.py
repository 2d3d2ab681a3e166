"""Certificates that a run renews."""

import requests
from cryptography import x509
from lib.cluster import changed, eventually


def test_a_renewed_certificate_is_shown_by_the_same_process(cluster):
    """By Redis and by nginx; neither is restarted, and a visitor's session is where it was."""
    visitor = cluster.log_in(cluster.balancer)
    ports = {cluster.redis: 6379, cluster.balancer: 443}

    def shown():
        ask = "echo | openssl s_client -connect {}:{} 2>/dev/null | openssl x509 -noout -serial"
        said = {host: cluster.run(host, ask.format(cluster.address[host], port)) for host, port in ports.items()}
        return {host: int(line.removeprefix("serial="), 16) for host, line in said.items()}

    def masters():
        units = {cluster.redis: "redis-server", cluster.balancer: "nginx"}
        return {host: cluster.run(host, f"systemctl show --value -p MainPID {unit}") for host, unit in units.items()}

    def replaced():
        """The numbers of the certificates that are revoked, as what visitors see leads to the list of them."""
        find = "openssl s_client -connect :443 </dev/null 2>/dev/null | openssl x509 -noout -text | grep -o 'http:.*'"
        listed = requests.get(cluster.run(cluster.balancer, find), timeout=10)
        assert (listed.status_code, listed.headers["Content-Type"]) == (200, "application/pkix-crl")
        return {each.serial_number for each in x509.load_der_x509_crl(listed.content)}

    before, of = shown(), masters()
    assert not replaced() & set(before.values())
    output = cluster.converge("--tags", "certificates,redis,nginx", "-e", "certificates_renew=true")
    assert eventually(lambda: not set(shown().values()) & set(before.values()))
    assert masters() == of
    assert replaced() >= set(before.values()) and not replaced() & set(shown().values())
    assert {host for host, count in changed(output).items() if count} == set(ports)
    assert visitor.get(cluster.balancer).status_code == 200
    assert set(changed(cluster.converge("--tags", "certificates,redis,nginx")).values()) == {0}
