"""Certificates that a run renews."""

import requests
from cryptography import x509
from lib.cluster import Cluster, eventually


def test_a_renewed_certificate_is_presented_by_the_same_process(cluster: Cluster) -> None:
    """By Redis and by nginx, without a restart and without an end of sessions.

    That the next run changes nothing is asserted in tests/e2e/cluster/test_partial_runs.py, which runs later.
    """
    client = cluster.log_in(cluster.balancer)
    ports = {cluster.redis: 6379, cluster.balancer: 443}

    def serials() -> dict[str, int]:
        query = "echo | openssl s_client -connect {}:{} 2>/dev/null | openssl x509 -noout -serial"
        lines = {host: cluster.run(host, query.format(cluster.address[host], port)) for host, port in ports.items()}
        return {host: int(line.removeprefix("serial="), 16) for host, line in lines.items()}

    def main_pids() -> dict[str, str]:
        units = {cluster.redis: "redis-server", cluster.balancer: "nginx"}
        return {host: cluster.run(host, f"systemctl show --value -p MainPID {unit}") for host, unit in units.items()}

    def revoked() -> set[int]:
        """Return the serials of revoked certificates, from the URL in the certificate that clients see."""
        find = "openssl s_client -connect :443 </dev/null 2>/dev/null | openssl x509 -noout -text | grep -o 'http:.*'"
        listed = requests.get(cluster.run(cluster.balancer, find), timeout=10)
        assert (listed.status_code, listed.headers["Content-Type"]) == (200, "application/pkix-crl")
        return {each.serial_number for each in x509.load_der_x509_crl(listed.content)}

    before, pids = serials(), main_pids()
    assert not revoked() & set(before.values())
    run = cluster.converge("--tags", "certificates,redis,nginx", "-e", "certificates_renew=true")
    assert eventually(lambda: not set(serials().values()) & set(before.values()))
    assert main_pids() == pids
    assert revoked() >= set(before.values()) and not revoked() & set(serials().values())
    assert {host for host, count in run.changed.items() if count} == set(ports)
    assert client.get(cluster.balancer).status_code == 200
