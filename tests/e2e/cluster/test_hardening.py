"""Hosts accept SSH keys only, install security updates, and confine their services."""

import json
import subprocess

import pytest
from lib.cluster import Cluster, eventually


def ssh(cluster: Cluster, host: str, user: str, *options: str) -> str:
    """Run `id -un` over SSH as a user of a host; return the output of ssh."""
    key = cluster.inventory.parent / ".secrets" / "ssh" / "id_ed25519"
    command = ["ssh", "-F", "none", "-i", str(key), "-o", f"UserKnownHostsFile={key.parent}/known_hosts"]
    command += ["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", *options]
    command += [f"{user}@{cluster.address[host]}", "id -un"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def test_ssh_accepts_only_keys(cluster: Cluster) -> None:
    """No host offers password authentication."""
    for host in cluster.address:
        assert ssh(cluster, host, "ops") == "ops"
        refused = ssh(cluster, host, "ops", "-o", "PreferredAuthentications=none,password,keyboard-interactive")
        assert "Permission denied (publickey)." in refused


def test_root_cant_log_in_even_with_a_key(cluster: Cluster) -> None:
    host = cluster.redis
    cluster.run(host, "install -D -m 600 ~ops/.ssh/authorized_keys /root/.ssh/authorized_keys")
    try:
        assert "Permission denied" in ssh(cluster, host, "root")
    finally:
        cluster.run(host, "rm /root/.ssh/authorized_keys")


def test_security_updates_are_installed_automatically(cluster: Cluster) -> None:
    """By Debian's tool, and no other updates. That a run enables its timer: test_audit_log.py."""
    for host in cluster.address:
        assert 'APT::Periodic::Unattended-Upgrade "1";' in cluster.run(host, "apt-config dump")
    output = cluster.run(cluster.redis, "unattended-upgrade --dry-run --debug 2>&1")
    (allowed,) = [line for line in output.splitlines() if "Allowed origins are" in line]
    assert allowed.count("origin=") == 1
    assert "-security,label=Debian-Security" in allowed


def test_each_part_of_the_hardening_can_be_disabled(cluster: Cluster) -> None:
    """A setting changes a host, unless its part, or all hardening, is disabled there."""
    hardened, without_ssh, without_all = cluster.redis, *cluster.apps[:2]
    switches = {
        "common_root_login": True,
        "common_ssh": f"{{{{ inventory_hostname != '{without_ssh}' }}}}",
        "common_harden": f"{{{{ inventory_hostname != '{without_all}' }}}}",
    }
    limit = ",".join((hardened, without_ssh, without_all))
    run = cluster.converge("--tags", "common", "--limit", limit, "--check", "--diff", "-e", json.dumps(switches))
    assert run.output.count("+PermitRootLogin prohibit-password") == 1
    assert run.changed == {hardened: 1, without_ssh: 0, without_all: 0}, run.output


def test_clocks_are_synchronized(cluster: Cluster) -> None:
    """By a unit that systemd doesn't start in a container."""
    for host in cluster.address:
        assert cluster.run(host, "systemctl is-enabled systemd-timesyncd") == "enabled"


@pytest.mark.parametrize("service", ["nginx", "redis-server", "anynode"])
def test_a_service_is_sandboxed(cluster: Cluster, service: str) -> None:
    """Each of its processes filters system calls, gains no privileges, and has a read-only file system.

    The exposure of the units is computed from their files in tests/integration/test_sandbox.py.
    """
    host = {"nginx": cluster.balancer, "redis-server": cluster.redis}.get(service, cluster.apps[0])
    main = cluster.run(host, f"systemctl show --value --property MainPID {service}")
    for pid in cluster.run(host, f"ps -o pid= --pid {main} --ppid {main}").split():
        status = cluster.run(host, f"cat /proc/{pid}/status", check=False)
        if not status and pid != main:
            continue  # a worker that has ended since
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        assert "CapBnd:\t" + ("00000000000004e3" if service == "nginx" else "0" * 16) in status
        mounts = cluster.run(host, f"cat /proc/{pid}/mountinfo")
        *_, root = [line for line in mounts.splitlines() if line.split()[4] == "/"]
        assert root.split()[5].startswith("ro"), root


def test_the_sandbox_allows_nginx_to_rotate_its_logs(cluster: Cluster) -> None:
    """Debian's logrotate moves them, and nginx writes to new files."""
    cluster.run(cluster.balancer, "logrotate --force /etc/logrotate.d/nginx")

    def is_written() -> bool:
        request_id = cluster.client().get(cluster.balancer, "/healthz").headers["X-Request-ID"]
        return request_id in cluster.run(cluster.balancer, "cat /var/log/nginx/access.log")

    assert eventually(is_written)
