"""Damage that the next run repairs. The tests build on each other; the last test restores all settings."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass

import pytest
from lib.cluster import SECRETS, Cluster, eventually
from lib.deployments import deployment_ids, pids

# Replaces tar: leaves the app out, and fails.
HALF_TAR = """#!/bin/sh
case " $* " in *" --extract "*) /usr/bin/tar "$@" --exclude "*/anynode/*"; exit 1 ;; esac
exec /usr/bin/tar "$@"
"""


def test_an_incomplete_release_is_never_used(cluster: Cluster) -> None:
    """Unpacking fails: the run fails, and the app continues to run. The next test has the run that uploads it again."""
    node = cluster.apps[1]
    tar = f"rm -r /srv/anynode/releases/*; echo '{HALF_TAR}' > /usr/local/bin/tar; chmod +x /usr/local/bin/tar"
    cluster.run(node, tar)
    try:
        assert not cluster.playbook("site.yml", "--tags", "app").ok
        assert cluster.client().get(node, "/readyz").status_code == 200
    finally:
        cluster.run(node, "rm /usr/local/bin/tar")


MAIN_PID = "systemctl show --value --property MainPID {}"


def nginx_workers(cluster: Cluster) -> set[str]:
    """Return the processes that answer requests on the balancer."""
    return set(cluster.run(cluster.balancer, "pgrep -u www-data nginx").split())


@dataclass
class Before:
    """The cluster before runs were interrupted: processes, deployments, the current release of the first node."""

    redis: str
    nginx: str
    nginx_workers: set[str]
    pids: list[str]
    deployments: dict[str, str]
    release: str


@pytest.fixture(scope="module")
def continued(cluster: Cluster) -> Before:
    """Interrupt runs of Redis, nginx and the app after their files were written; run all three again, and complete.

    On the first node there are seven old releases by then.
    """
    node = cluster.apps[0]
    before = Before(
        redis=cluster.run(cluster.redis, MAIN_PID.format("redis-server")),
        nginx=cluster.run(cluster.balancer, MAIN_PID.format("nginx")),
        nginx_workers=nginx_workers(cluster),
        pids=pids(cluster, *cluster.apps),
        deployments=deployment_ids(cluster),
        release=cluster.run(node, "readlink /srv/anynode/current/release"),
    )
    cluster.run(node, "cd /srv/anynode/releases && for i in 1 2 3 4 5 6 7; do mkdir old-$i; sleep 0.01; done")
    settings = ("-e", "redis_maxmemory=200mb", "-e", "app_threads=7", "-e", "nginx_read_timeout=29s")
    cluster.interrupt("roles/redis/ unit_outdated", "site.yml", "--tags", "redis", *settings)
    cluster.interrupt("roles/nginx/ unit_outdated", "site.yml", "--tags", "nginx", *settings)
    cluster.interrupt("playbooks/internal/rolling_update.yml nginx_upstream", "site.yml", "--tags", "app", *settings)
    assert cluster.run(cluster.redis, MAIN_PID.format("redis-server")) == before.redis
    assert "maxmemory 200mb" in cluster.run(cluster.redis, "cat /etc/redis/anynode.conf")
    assert "29s" in cluster.run(cluster.balancer, "cat /etc/nginx/nginx.conf")
    assert before.nginx_workers & nginx_workers(cluster), "the interrupted run loaded the setting"
    assert pids(cluster, *cluster.apps) == before.pids
    cluster.converge("--tags", "redis,nginx,app", *settings)
    return before


def test_a_setting_that_was_written_but_not_loaded_is_loaded_by_the_next_run(
    cluster: Cluster, continued: Before
) -> None:
    """The file is as it should be, but the service runs with the old file."""
    password = cluster.secret("redis_admin_password")
    query = (
        f"REDISCLI_AUTH={password} redis-cli --tls --cacert /etc/anynode/tls/ca.crt --user admin config get maxmemory"
    )
    assert cluster.run(cluster.redis, query).split()[-1] == str(200 * 2**20)
    assert not set(continued.pids) & set(pids(cluster, *cluster.apps))
    assert not set(continued.deployments.values()) & set(deployment_ids(cluster).values())


def test_nginx_is_reloaded_and_never_restarted(cluster: Cluster, continued: Before) -> None:
    assert cluster.run(cluster.balancer, MAIN_PID.format("nginx")) == continued.nginx
    assert eventually(lambda: not continued.nginx_workers & nginx_workers(cluster))


def test_an_incomplete_release_is_uploaded_again(cluster: Cluster, continued: Before) -> None:
    node = cluster.apps[1]
    cluster.run(node, "systemctl restart anynode.service")
    assert cluster.client().get(node, "/readyz").status_code == 200
    assert cluster.run(node, "ls /srv/anynode/incoming") == ""


def test_old_releases_are_pruned_but_never_the_current_release(cluster: Cluster, continued: Before) -> None:
    """A deployment keeps the newest five, and the current release even if it is the oldest."""
    node = cluster.apps[0]
    names = cluster.run(node, "ls /srv/anynode/releases").split()
    current = continued.release.removeprefix("/srv/anynode/releases/")
    assert sorted(names) == sorted([current, *(f"old-{number}" for number in range(3, 8))])
    assert cluster.run(node, "readlink /srv/anynode/current/release") == continued.release
    cluster.run(node, "rm -r /srv/anynode/releases/old-*")


def test_a_redis_that_can_not_start_is_reported_with_the_remedy(cluster: Cluster) -> None:
    """Zeros at the end of its append-only file, as a power failure leaves them."""
    client = cluster.log_in(cluster.apps[0])
    time.sleep(1.5)  # writes are on disk within a second
    damage = "for file in /var/lib/redis/appendonlydir/*.incr.aof; do head -c 4096 /dev/zero >> $file; done"
    cluster.run(cluster.redis, f"systemctl stop redis-server; {damage}; systemctl start --no-block redis-server")
    run = cluster.playbook("site.yml", "--tags", "redis")
    assert not run.ok
    assert "Bad file format reading the append only file" in run.words
    found = re.search(r"cp -a .*? && systemctl restart redis-server", run.words)
    assert found, run.output
    cluster.run(cluster.redis, found[0])
    assert eventually(lambda: client.get(cluster.apps[0]).status_code == 200)


def test_lost_hosts_are_created_again_though_a_run_was_killed_meanwhile(cluster: Cluster) -> None:
    """Half of the hosts are lost. Sessions remain, and not even --diff -vvv shows a secret or a key.

    This whole run also restores the settings that the tests above have changed, and repairs a node that has started
    with another CA: the app must read the restored file.
    """
    client = cluster.log_in(cluster.apps[0])
    other_ca = (
        "openssl req -x509 -nodes -newkey rsa:2048 -keyout /dev/null -subj /CN=other -out /etc/anynode/tls/ca.crt"
    )
    cluster.run(cluster.apps[0], f"{other_ca} 2>/dev/null; systemctl restart anynode.service")
    assert eventually(lambda: client.get(cluster.apps[0]).status_code == 503)
    lost = [f"{cluster.prefix}-{cluster.balancer}", f"{cluster.prefix}-{cluster.apps[1]}"]
    subprocess.run(["docker", "rm", "--force", *lost], check=True, capture_output=True)
    # The containers exist, but have no keys and were not started.
    cluster.interrupt("roles/local_nodes/ docker_container_copy_into", "site.yml")
    run = cluster.converge("--diff", "-vvv")
    assert "+APP_NODE=" in run.output
    secrets = cluster.secrets()
    assert set(SECRETS) | {"ca.key", f"{cluster.balancer}:/etc/anynode/tls/nginx.key"} <= set(secrets)
    assert [name for name, line in secrets.items() if line in run.output] == []
    for host in cluster.http_hosts:
        assert client.get(host).status_code == 200
