"""The machines let nobody in but who has a key, keep themselves up to date, and shut their services in."""

import json
import subprocess

import pytest
from lib.cluster import changed, eventually


def ssh(cluster, host, user, *options):
    """What ssh says when it runs `id -un` as a user of a machine."""
    key = cluster.inventory.parent / ".secrets" / "ssh" / "id_ed25519"
    command = [
        "ssh",
        "-F",
        "none",
        "-i",
        key,
        "-o",
        f"UserKnownHostsFile={key.parent}/known_hosts",
        "-o",
        "BatchMode=yes",
    ]
    command += ["-o", "IdentitiesOnly=yes", *options, f"{user}@{cluster.address[host]}", "id -un"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def test_only_keys_let_in(cluster):
    """No machine offers to try a password."""
    for host in cluster.address:
        assert ssh(cluster, host, "ops") == "ops"
        said = ssh(cluster, host, "ops", "-o", "PreferredAuthentications=none,password,keyboard-interactive")
        assert "Permission denied (publickey)." in said


def test_root_stays_out_even_with_a_key(cluster):
    """Whoever is to be root comes in as somebody first."""
    host = cluster.redis
    cluster.run(host, "install -D -m 600 ~ops/.ssh/authorized_keys /root/.ssh/authorized_keys")
    try:
        assert "Permission denied" in ssh(cluster, host, "root")
    finally:
        cluster.run(host, "rm /root/.ssh/authorized_keys")


def test_security_updates_come_by_themselves(cluster):
    """Debian's tool means to install these, and no others."""
    for host in cluster.address:
        assert 'APT::Periodic::Unattended-Upgrade "1";' in cluster.run(host, "apt-config dump")
    told = cluster.run(cluster.redis, "unattended-upgrade --dry-run --debug 2>&1")
    (allowed,) = [line for line in told.splitlines() if "Allowed origins are" in line]
    assert allowed.count("origin=") == 1
    assert "-security,label=Debian-Security" in allowed


def test_updates_that_were_switched_off_but_not_masked_come_again(cluster):
    """Apt's timers are what makes them come."""
    host, timer = cluster.apps[-1], "apt-daily-upgrade.timer"
    cluster.run(host, f"systemctl unmask {timer} && systemctl disable {timer}")
    try:
        cluster.converge("--tags", "common", "--limit", host)
        assert cluster.run(host, f"systemctl is-enabled {timer}; systemctl is-active {timer}") == "enabled\nactive"
    finally:
        cluster.run(host, f"systemctl disable --now {timer}; systemctl mask {timer}")


def test_each_part_can_be_left_out(cluster):
    """What is asked for would change something, where its part isn't left out, or all of them."""
    asked, without_ssh, without_all = cluster.redis, *cluster.apps[:2]
    switches = {
        "common_root_login": True,
        "common_ssh": f"{{{{ inventory_hostname != '{without_ssh}' }}}}",
        "common_harden": f"{{{{ inventory_hostname != '{without_all}' }}}}",
    }
    limit = ",".join((asked, without_ssh, without_all))
    output = cluster.converge("--tags", "common", "--limit", limit, "--check", "--diff", "-e", json.dumps(switches))
    assert output.count("+PermitRootLogin prohibit-password") == 1
    assert changed(output) == {asked: 1, without_ssh: 0, without_all: 0}, output


def test_time_is_kept(cluster):
    """By a unit that a container's systemd leaves alone."""
    for host in cluster.address:
        assert cluster.run(host, "systemctl is-enabled systemd-timesyncd") == "enabled"


@pytest.mark.parametrize("service", ["nginx", "redis-server", "anynode"])
def test_a_service_is_shut_in(cluster, service):
    """Each process that runs now filters its system calls, gains no rights, and finds the machine read-only.

    How exposed the units are is read off their files, in tests/integration/test_sandbox.py.
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


def test_the_sandbox_lets_nginx_rotate_its_logs(cluster):
    """Debian's logrotate moves them away, and nginx writes to new ones."""
    cluster.run(cluster.balancer, "logrotate --force /etc/logrotate.d/nginx")

    def is_written():
        request_id = cluster.visitor().get(cluster.balancer, "/healthz").headers["X-Request-ID"]
        return request_id in cluster.run(cluster.balancer, "cat /var/log/nginx/access.log")

    assert eventually(is_written)
