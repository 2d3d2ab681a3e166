"""All secrets are rotated under load, by a run that is killed in the middle and by the next run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lib.cluster import SECRETS, Cluster
from lib.deployments import drained
from lib.load_fixtures import Load

ROTATED = [name for name in SECRETS if name != "app_demo_password"]
PLAYBOOK = "playbooks/rotate_secrets.yml"
TLS = "--tls --cacert /etc/anynode/tls/ca.crt"


def secrets(cluster: Cluster) -> dict[str, str]:
    """Return the active secrets by name."""
    return {name: cluster.secret(name) for name in ROTATED}


def accepted(cluster: Cluster, values: dict[str, str]) -> list[str]:
    """Return the ACL users of Redis whose password among these values is valid."""
    log_in = "redis-cli {} --no-auth-warning auth {} {}"
    answers = {
        user: cluster.run(cluster.redis, log_in.format(TLS, user, values[f"redis_{user}_password"]), check=False)
        for user in ("app", "admin")
    }
    assert all(answer == "OK" or "WRONGPASS" in answer for answer in answers.values()), answers
    return [user for user, answer in answers.items() if answer == "OK"]


def serials(cluster: Cluster) -> set[str]:
    """Return the serial numbers of the certificates that the balancer and Redis present."""
    query = "openssl s_client -connect 127.0.0.1:{} < /dev/null 2> /dev/null | openssl x509 -noout -serial"
    return {cluster.run(cluster.balancer, query.format(443)), cluster.run(cluster.redis, query.format(6379))}


def found(cluster: Cluster, values: dict[str, str]) -> tuple[dict[str, str], list[Path]]:
    """Return where any of these values can be read: files and journals by host, and files on the controller."""
    lines = "\n".join(values.values())
    search = f"""
        grep -rlasF -D skip -f - /etc /srv /var /run /root /home /tmp /usr/local <<'END'\n{lines}\nEND
        journalctl --all --no-pager | grep -F -f /dev/fd/3 3<<'END'\n{lines}\nEND
    """
    hosts = {host: cluster.run(host, search, check=False) for host in cluster.address}
    files = [path for path in (cluster.inventory.parent / ".secrets").rglob("*") if path.is_file()]
    here = [path for path in files if set(values.values()) & set(path.read_text(errors="replace").split())]
    return {host: files for host, files in hosts.items() if files}, here


def in_the_middle(cluster: Cluster) -> bool:
    """Return whether the first node uses the new secrets and the second node is about to get them."""
    first, second = cluster.apps[:2]
    # Only the first node is queried: the second may be restarting.
    return drained(cluster) == [second] and cluster.client().get(first, "/healthz").headers["X-Deployment"].endswith(
        "_active"
    )


def test_all_secrets_are_rotated_unnoticed_though_the_run_is_killed(
    cluster: Cluster, unnoticed: Callable[..., Load]
) -> None:
    """In three rolling updates. Killed in the second, old and new secrets are valid; the next run makes no third value.

    In the end the old secrets are invalid and in no file. With two nodes: the cluster is then that of two.yml.
    """
    two = cluster.of_size("two")
    before, certificates = secrets(two), serials(two)
    client = two.log_in(two.apps[0])
    assert accepted(two, before) == ["app", "admin"]
    with unnoticed("the secrets are replaced, by a run that is killed and by the next one"):
        with two.background(PLAYBOOK) as first:
            first.wait_for(lambda: in_the_middle(two), seconds=600)
        after = secrets(two)
        assert set(before.values()).isdisjoint(after.values())
        assert accepted(two, before) == accepted(two, after) == ["app", "admin"]
        run = two.playbook(PLAYBOOK, "--diff", "-vvv")
    assert run.ok, run.output
    assert secrets(two) == after
    assert accepted(two, before) == []
    assert accepted(two, after) == ["app", "admin"]
    assert certificates.isdisjoint(serials(two))
    assert found(two, before) == ({}, [])
    assert set(found(two, after)[0]) == {*two.apps, two.balancer}  # Redis has hashes
    assert [value for value in (*before.values(), *after.values()) if value in run.output] == []
    assert drained(two) == []
    for host in two.http_hosts:
        assert client.get(host).status_code == 200, host
