"""All secrets are replaced while visitors are there; and once more, cut off in the middle."""

import os
import signal
import subprocess

from support.cluster import ROOT, SECRETS, eventually
from support.nodes import out, runs

REPLACED = [name for name in SECRETS if name != "app_demo_password"]
PLAYBOOK = "playbooks/rotate_secrets.yml"
TLS = "--tls --cacert /etc/anynode/tls/ca.crt"


def secrets(cluster):
    """Those in use, by name."""
    return {name: cluster.secret(name) for name in REPLACED}


def accepted(cluster, values):
    """The accounts of Redis whose password among these values is good."""
    log_in = "redis-cli {} --no-auth-warning auth {} {}"
    users = [user for user in ("app", "admin") if f"redis_{user}_password" in values]
    said = {
        user: cluster.run(cluster.redis, log_in.format(TLS, user, values[f"redis_{user}_password"]), check=False)
        for user in users
    }
    assert all(each == "OK" or "WRONGPASS" in each for each in said.values()), said
    return [user for user, each in said.items() if each == "OK"]


def shown(cluster):
    """The certificates that the balancer and Redis show."""
    ask = "openssl s_client -connect 127.0.0.1:{} < /dev/null 2> /dev/null | openssl x509 -noout -serial"
    return {cluster.run(cluster.balancer, ask.format(443)), cluster.run(cluster.redis, ask.format(6379))}


def left(cluster, values):
    """Where any of these values can be read, on the machines and here."""
    lines = "\n".join(values.values())
    search = f"""
        grep -rlasF -D skip -f - /etc /srv /var /run /root /home /tmp /usr/local <<'END'\n{lines}\nEND
        journalctl --all --no-pager | grep -F -f /dev/fd/3 3<<'END'\n{lines}\nEND
    """
    machines = [cluster.balancer, cluster.redis, *cluster.apps]
    found = {host: cluster.run(host, search, check=False) for host in machines}
    folder = cluster.inventory.parent / ".secrets"
    here = [
        path for path in folder.rglob("*") if path.is_file() and set(values.values()) & set(path.read_text().split())
    ]
    return {host: files for host, files in found.items() if files}, here


def test_all_secrets_are_replaced_and_nobody_notices(cluster, unnoticed):
    """In three rolls. The old ones are worth nothing then, and nowhere to be found."""
    before, certificates = secrets(cluster), shown(cluster)
    visitor = cluster.log_in(cluster.apps[0])
    assert accepted(cluster, before) == ["app", "admin"]
    with unnoticed("the secrets are replaced"):
        done = cluster.playbook(PLAYBOOK, "--diff", "-vvv")
    assert done.returncode == 0, done.stdout
    after = secrets(cluster)
    assert set(before.values()).isdisjoint(after.values())
    assert accepted(cluster, before) == []
    assert accepted(cluster, after) == ["app", "admin"]
    assert certificates.isdisjoint(shown(cluster))
    assert left(cluster, before) == ({}, [])
    assert [value for value in (*before.values(), *after.values()) if value in done.stdout + done.stderr] == []
    for host in cluster.doors:
        assert visitor.get(host).status_code == 200, host


def test_a_rotation_that_was_killed_is_gone_on_with(cluster, unnoticed):
    """Old and new are good meanwhile; no third value is made."""
    first, second = cluster.apps[:2]
    before = secrets(cluster)
    with unnoticed("a rotation is killed, the next run goes on"):
        run = subprocess.Popen(
            ["ansible-playbook", "-i", cluster.inventory, PLAYBOOK],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            in_the_middle = eventually(
                lambda: out(cluster) == [second] and runs(cluster)[first].endswith("_taken"), seconds=600
            )
        finally:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        assert in_the_middle
        between = secrets(cluster)
        assert set(before.values()).isdisjoint(between.values())
        assert accepted(cluster, before) == accepted(cluster, between) == ["app", "admin"]
        done = cluster.playbook(PLAYBOOK)
    assert done.returncode == 0, done.stdout
    assert secrets(cluster) == between
    assert accepted(cluster, before) == []
    assert left(cluster, before) == ({}, [])
    assert out(cluster) == []
