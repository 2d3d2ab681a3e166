"""Two deployments at once, an interrupted run, an unreachable node, a full disk."""

from __future__ import annotations

import json
from collections.abc import Callable

from lib.cluster import Cluster
from lib.deployments import drained, pids, releases
from lib.load_fixtures import Load

Release = Callable[..., list[str]]


def test_a_second_deployment_is_refused_and_an_interrupted_one_is_continued(
    cluster: Cluster, unnoticed: Callable[..., Load], release: Release
) -> None:
    """The message names the holder of the lock. Once its process is gone, the next run takes over."""
    new = release()
    others = pids(cluster, *cluster.apps[1:])
    with unnoticed("a deploy is killed, the next one goes on"):
        with cluster.background("playbooks/deploy.yml", "-e", "app_soak_seconds=60", *new) as first:
            first.wait_for(lambda: drained(cluster) == [cluster.apps[0]], seconds=90)
            run = cluster.playbook("playbooks/deploy.yml")
            assert not run.ok
            assert "playbooks/deploy.yml" in run.words and "-e deploy_lock_take_over=" in run.words
            # Maintenance mode needs no lock. Clients would notice state=on, so this run sets the state that is there.
            off = cluster.playbook("playbooks/maintenance.yml", "-e", "state=off")
            assert off.ok and off.idempotent
            assert first.running
        assert drained(cluster) == [cluster.apps[0]]
        assert pids(cluster, *cluster.apps[1:]) == others
        run = cluster.playbook("playbooks/deploy.yml", *new)
    assert run.ok, run.output
    assert drained(cluster) == []
    assert len(set(releases(cluster).values())) == 1


# Drains a node as a deployment does that is killed just before its last step.
DRAIN = r"""python3 - <<'SCRIPT'
import json, pathlib, re
state = pathlib.Path("/var/lib/anynode/upstream.json")
content = json.loads(state.read_text())
content["nodes"]["{node}"]["drained"] = json.loads('{reason}')
state.write_text(json.dumps(content))
rendered = pathlib.Path("/etc/nginx/upstream.conf")
text = rendered.read_text()
down = re.sub(r"(?m)^( *server {address}:[^;]*);", r"\1 down;", text)
assert down != text, text
rendered.write_text(down)
SCRIPT
systemctl reload nginx"""


def test_a_node_that_an_interrupted_deployment_drained_is_undrained(cluster: Cluster) -> None:
    """It already runs the right release, so nothing else is left to do for it."""
    node = cluster.apps[0]
    reason = {"by": "-", "kind": "deployment", "deployment": "-", "since": "-", "reason": "deployment"}
    values = {"{node}": node, "{reason}": json.dumps(reason), "{address}": cluster.address[node]}
    command = DRAIN
    for name, value in values.items():
        command = command.replace(name, value)
    servers = "nginx -T 2>/dev/null | grep -E '^ *server [0-9]'"
    cluster.converge("--tags", "app")  # from the release of the test before
    before = pids(cluster, *cluster.apps)
    cluster.run(cluster.balancer, command)
    assert drained(cluster) == [node]
    assert " down" in cluster.run(cluster.balancer, servers)
    cluster.converge("--tags", "app")
    assert drained(cluster) == []
    assert " down" not in cluster.run(cluster.balancer, servers)
    assert pids(cluster, *cluster.apps) == before


def test_an_unreachable_node_stops_a_run_before_it_changes_anything(
    cluster: Cluster, unnoticed: Callable[..., Load], release: Release
) -> None:
    """With skip_unreachable the run continues with the node drained, until a later run reaches it."""
    lost, new = cluster.apps[-1], release()
    before = pids(cluster, *cluster.apps)
    cluster.run(lost, "systemctl stop ssh.socket ssh.service; pkill -x sshd || true")
    try:
        with unnoticed("a node can't be reached"):
            run = cluster.playbook("playbooks/deploy.yml", *new)
            assert not run.ok
            assert pids(cluster, *cluster.apps) == before
            run = cluster.playbook("playbooks/deploy.yml", "-e", "skip_unreachable=true", *new)
            assert run.returncode == 4, run.output  # Ansible's: a host was unreachable
            assert drained(cluster) == [lost]
            assert pids(cluster, lost) == before[-1:]
            assert not {*before} & {*pids(cluster, *cluster.apps[:-1])}, "the other nodes have the new release"
            for playbook, expected in (("drain", [cluster.apps[0], lost]), ("undrain", [lost])):
                run = cluster.playbook(f"playbooks/{playbook}.yml", "-e", f"node={cluster.apps[0]}")
                assert run.ok, run.output
                assert drained(cluster) == expected
    finally:
        cluster.run(lost, "systemctl start ssh.service")
    run = cluster.playbook("playbooks/deploy.yml", *new)
    assert run.ok, run.output
    assert drained(cluster) == []
    assert len(set(releases(cluster).values())) == 1


def test_a_full_disk_stops_a_run_before_it_changes_anything(cluster: Cluster, release: Release) -> None:
    """On any host: here the last node, with a full file system mounted where a deployment writes."""
    full, before = cluster.apps[-1], pids(cluster, *cluster.apps)
    cluster.run(full, "mount -t tmpfs -o size=1m full /srv && ! cat /dev/zero > /srv/all 2>&1")
    try:
        run = cluster.playbook("playbooks/deploy.yml", *release())
    finally:
        cluster.run(full, "umount --lazy /srv")
    assert not run.ok
    assert full in run.output and "0 on /srv" in run.words, run.output
    assert pids(cluster, *cluster.apps) == before
