"""All secrets are replaced while visitors are there, though the run is cut off in the middle."""

import os
import signal
import subprocess

from lib.cluster import ROOT, SECRETS, eventually
from lib.deployments import out

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
    files = [path for path in (cluster.inventory.parent / ".secrets").rglob("*") if path.is_file()]
    here = [path for path in files if set(values.values()) & set(path.read_text(errors="replace").split())]
    return {host: files for host, files in found.items() if files}, here


def in_the_middle(cluster):
    """Whether the first node has the new secrets and the second one is about to get them."""
    first, second = cluster.apps[:2]
    # Not the second one: it is about to restart, and may let the question wait.
    return out(cluster) == [second] and cluster.visitor().get(first, "/healthz").headers["X-Deployment"].endswith(
        "_taken"
    )


def test_all_secrets_are_replaced_and_nobody_notices_though_the_run_is_killed(cluster, unnoticed, tmp_path):
    """In three rolls. Killed in the second one, old and new are good; the next run goes on and makes no third value.

    The old ones are worth nothing then, and nowhere to be found.
    """
    before, certificates = secrets(cluster), shown(cluster)
    visitor = cluster.log_in(cluster.apps[0])
    assert accepted(cluster, before) == ["app", "admin"]
    with unnoticed("the secrets are replaced, by a run that is killed and by the next one"):
        log = tmp_path / "log"
        with log.open("w") as output:
            command = ["ansible-playbook", "-i", cluster.inventory, PLAYBOOK]
            run = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
        try:
            ended = eventually(lambda: run.poll() is not None or in_the_middle(cluster), seconds=600)
            assert ended and run.poll() is None, log.read_text()
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
        after = secrets(cluster)
        assert set(before.values()).isdisjoint(after.values())
        assert accepted(cluster, before) == accepted(cluster, after) == ["app", "admin"]
        done = cluster.playbook(PLAYBOOK, "--diff", "-vvv")
    assert done.returncode == 0, done.stdout
    assert secrets(cluster) == after
    assert accepted(cluster, before) == []
    assert accepted(cluster, after) == ["app", "admin"]
    assert certificates.isdisjoint(shown(cluster))
    assert left(cluster, before) == ({}, [])
    assert set(left(cluster, after)[0]) == {*cluster.apps, cluster.balancer}  # Redis has hashes
    assert [value for value in (*before.values(), *after.values()) if value in done.stdout + done.stderr] == []
    assert out(cluster) == []
    for host in cluster.doors:
        assert visitor.get(host).status_code == 200, host
