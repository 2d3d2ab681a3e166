"""A certificate from an ACME server: Debian's pebble, on the balancer itself."""

import json
from collections.abc import Iterator

import pytest
from lib.cluster import Cluster, eventually

NAME = "shop.example.org"
PEBBLE = {
    "listenAddress": "0.0.0.0:14000",
    "managementListenAddress": "127.0.0.1:15000",
    "certificate": "/run/pebble/nginx.crt",
    "privateKey": "/run/pebble/nginx.key",
    "httpPort": 80,
    "tlsPort": 443,
}


@pytest.fixture
def acme(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    """Start an ACME server and its DNS, where all names resolve to the balancer; yield the settings that name it."""
    start = f"""
        set -e
        apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install pebble
        mkdir /run/pebble && cp /etc/anynode/tls/nginx.* /run/pebble
        echo '{json.dumps({"pebble": PEBBLE})}' > /run/pebble/config.json
        systemd-run --unit=pebble-dns pebble-challtestsrv -dns01 127.0.0.1:8053 -management 127.0.0.1:8055 \
            -defaultIPv4 {cluster.address[cluster.balancer]} -defaultIPv6 '' -http01 '' -https01 '' -tlsalpn01 ''
        systemd-run --unit=pebble --setenv=PEBBLE_VA_NOSLEEP=1 \
            pebble -config /run/pebble/config.json -dnsserver 127.0.0.1:8053
    """
    stop = "systemctl stop pebble pebble-dns; apt-get -qy purge pebble certbot; rm -rf /run/pebble /etc/letsencrypt"
    settings = {
        "nginx_certificate_source": "acme",
        "nginx_server_names": [NAME],
        "certificates_acme_directory": "https://localhost:14000/dir",
        "certificates_acme_ca_file": str(cluster.ca),
    }
    try:
        cluster.run(cluster.balancer, start)
        yield ("-e", json.dumps(settings))
    finally:
        cluster.run(cluster.balancer, stop)
        cluster.converge("--tags", "nginx")


def presented(cluster: Cluster) -> str:
    """Return issuer and serial of the certificate that clients of the name see."""
    query = f"echo | openssl s_client -connect localhost:443 -servername {NAME} 2>/dev/null"
    return cluster.run(cluster.balancer, f"{query} | openssl x509 -noout -issuer -serial")


def test_an_acme_server_issues_the_certificate_and_certbot_renews_it(cluster: Cluster, acme: tuple[str, ...]) -> None:
    """nginx presents both without a restart, the session check passes, and a second run changes nothing.

    The second run also shows that a tag runs no task of another service.
    """
    main_pid = "systemctl show --value --property MainPID nginx"
    before = cluster.run(cluster.balancer, main_pid)
    cluster.converge("--tags", "nginx,verify", *acme)
    first = presented(cluster)
    assert "Pebble" in first
    run = cluster.converge("--tags", "nginx", *acme)
    assert run.idempotent
    assert "nginx" in run.roles
    assert [task for task in run.tasks if task["file"].startswith(("roles/app/", "roles/redis/"))] == []
    assert presented(cluster) == first
    due = "sed -i 's/.*renew_before_expiry.*/renew_before_expiry = {} days/' /etc/letsencrypt/renewal/anynode.conf"
    cluster.run(cluster.balancer, f"{due.format(9999)} && systemctl start certbot.service")  # as its timer does
    assert eventually(lambda: presented(cluster) != first), cluster.run(cluster.balancer, "journalctl -u certbot -n 50")
    assert "Pebble" in presented(cluster)
    renewed = presented(cluster)
    cluster.run(cluster.balancer, due.format(1))  # the next certificate has another cause
    other = "https://127.0.0.1:14000/dir"  # as when a staging server is replaced by the real server
    cluster.converge("--tags", "nginx", *acme, "-e", f"certificates_acme_directory={other}")
    assert "Pebble" in presented(cluster) != renewed
    assert f"server = {other}\n" in cluster.run(cluster.balancer, "cat /etc/letsencrypt/renewal/anynode.conf") + "\n"
    assert cluster.run(cluster.balancer, main_pid) == before
