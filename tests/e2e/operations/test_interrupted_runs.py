"""Two people at once, a run that is cut off, a node that can't be reached, a disk that is full."""

import os
import signal
import subprocess

import pytest
from lib.cluster import ROOT, eventually
from lib.deployments import out, pids, releases


@pytest.fixture
def deploy(cluster):
    """Start a deploy that takes its time, in the background; ended at the end."""
    begun = []

    def begin(*arguments):
        command = ["ansible-playbook", "-i", cluster.inventory, "playbooks/deploy.yml", "-e", "app_soak_seconds=60"]
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"ANSIBLE_NOCOLOR": "true"},
            start_new_session=True,
        )
        begun.append(process)
        assert eventually(lambda: out(cluster) == [cluster.apps[0]], seconds=90)
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_second_run_is_refused_and_one_that_was_cut_off_is_repaired(cluster, unnoticed, release, deploy):
    """With who holds the lock; once that run is gone, the next one takes over and goes on."""
    new = release()
    others = pids(cluster, *cluster.apps[1:])
    with unnoticed("a deploy is killed, the next one goes on", requests=2000):
        first = deploy(*new)
        done = cluster.playbook("playbooks/deploy.yml")
        assert done.returncode != 0
        said = " ".join(done.stdout.split())
        assert "is at work since" in said and "playbooks/deploy.yml" in said and "-e deploy_lock_take_over=" in said
        # Announced while it is on: visitors would notice, so it is only asked to stay off.
        assert cluster.playbook("playbooks/maintenance.yml", "-e", "state=off").returncode == 0
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        assert out(cluster) == [cluster.apps[0]]
        assert pids(cluster, *cluster.apps[1:]) == others
        done = cluster.playbook("playbooks/deploy.yml", *new)
    assert done.returncode == 0, done.stdout
    assert out(cluster) == []
    assert len(set(releases(cluster).values())) == 1


def test_a_node_that_a_run_left_out_is_put_back(cluster):
    """It lacks nothing else: the run was cut off before its last step."""
    node, note = cluster.apps[0], '{"by": "-", "kind": "run", "run": "-", "since": "-", "reason": "a run changes it"}'
    line = f"s|^(server .*);  # {node}$|\\1 down;  # {node} out: {note}|"
    cluster.run(cluster.balancer, f"sed -Ei '{line}' /etc/nginx/upstream.conf && systemctl reload nginx")
    assert out(cluster) == [node]
    cluster.converge()
    assert out(cluster) == []


def test_a_node_that_cannot_be_reached_stops_a_run_before_it_begins(cluster, unnoticed, release):
    """Or, if it is told to, the run goes on without that node and leaves it out, until a run reaches it again."""
    lost, new = cluster.apps[-1], release()
    before = pids(cluster, *cluster.apps)
    cluster.run(lost, "systemctl stop ssh.socket ssh.service; pkill -x sshd || true")
    try:
        with unnoticed("a node can't be reached", requests=2000):
            done = cluster.playbook("playbooks/deploy.yml", *new)
            assert done.returncode != 0
            assert pids(cluster, *cluster.apps) == before
            done = cluster.playbook("playbooks/deploy.yml", "-e", "skip_unreachable=true", *new)
            assert done.returncode == 4, done.stdout  # Ansible's: a host was unreachable
            assert out(cluster) == [lost]
            assert pids(cluster, lost) == before[-1:]
            assert not {*before} & {*pids(cluster, *cluster.apps[:-1])}, "the others have the new release"
            for playbook, outs in (("drain", [cluster.apps[0], lost]), ("undrain", [lost])):
                done = cluster.playbook(f"playbooks/{playbook}.yml", "-e", f"node={cluster.apps[0]}")
                assert done.returncode == 0, done.stdout
                assert out(cluster) == outs
    finally:
        cluster.run(lost, "systemctl start ssh.service")
    done = cluster.playbook("playbooks/deploy.yml", *new)
    assert done.returncode == 0, done.stdout
    assert out(cluster) == []
    assert len(set(releases(cluster).values())) == 1


def test_a_full_disk_stops_a_run_before_it_begins(cluster, release):
    """Whichever machine's it is: here the last node's, where a full one lies over what the run would write to."""
    full, before = cluster.apps[-1], pids(cluster, *cluster.apps)
    cluster.run(full, "mount -t tmpfs -o size=1m full /srv && ! cat /dev/zero > /srv/all 2>&1")
    try:
        done = cluster.playbook("playbooks/deploy.yml", *release())
    finally:
        cluster.run(full, "umount --lazy /srv")
    assert done.returncode != 0
    assert f"{full} has too little room" in done.stdout and ", 0 on /srv" in done.stdout, done.stdout
    assert pids(cluster, *cluster.apps) == before
