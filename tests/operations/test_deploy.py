"""Releases come, go, and fail, and no visitor notices."""

import json

import pytest
from support.nodes import out, pids, releases, runs


def away(timeline, node):
    """For how many seconds in a row others served and this node did not."""
    longest = now = 0
    for row in timeline[1:-1]:
        now = now + 1 if row["requests"] and node not in row["nodes"] else 0
        longest = max(longest, now)
    return longest


def test_a_deploy_and_its_rollback_go_unnoticed(cluster, unnoticed, release, tmp_path):
    """Node by node, each out of the balancer meanwhile; the same run and release on all; then the same way back."""
    old = releases(cluster)
    new = release()
    with unnoticed():
        done = cluster.playbook("playbooks/deploy.yml", *new)
    assert done.returncode == 0, done.stdout
    assert len(set(runs(cluster).values())) == 1
    assert len(set(releases(cluster).values())) == 1
    assert releases(cluster) != old
    timeline = json.loads((tmp_path / "timeline.json").read_text())
    # The first one is watched for 3 s before visitors are let in.
    assert away(timeline, cluster.apps[0]) >= 2, timeline

    with unnoticed():
        done = cluster.playbook("playbooks/rollback.yml")
    assert done.returncode == 0, done.stdout
    assert releases(cluster) == old

    again = cluster.playbook("playbooks/deploy.yml", *new)
    assert again.returncode != 0
    assert "was rolled back, by" in " ".join(again.stdout.split())
    assert cluster.playbook("site.yml", *new).returncode == 0
    assert releases(cluster) == old
    again = cluster.playbook("playbooks/rollback.yml")
    assert "There is no earlier release that was good" in " ".join(again.stdout.split())


BAD = {
    "does not start": ("__init__.py", "from .config import", "from .nothing import", "No module named"),
    "is never ready": (
        "health.py",
        '    return _state("ok")\n\n\ndef',
        '    return _state("ill"), 500\n\n\ndef',
        "500",
    ),
    "dies after a while": (
        "__init__.py",
        "    config = config or",
        "    import os, signal, threading\n"
        "    threading.Timer(6, os.kill, (os.getppid(), signal.SIGKILL)).start()\n"
        "    config = config or",
        "after it worked",
    ),
    "is slow": ("api.py", "from flask import", "import time; time.sleep(0)\nfrom flask import", None),
}


@pytest.mark.parametrize("kind", ["does not start", "is never ready", "dies after a while"])
def test_a_bad_release_stops_at_the_first_node_and_is_put_back(cluster, unnoticed, release, kind):
    """The others are never touched, the message says what failed, and a good release needs no cleaning up."""
    path, before, after, words = BAD[kind]
    old, others = releases(cluster), pids(cluster, *cluster.apps[1:])
    with unnoticed():
        done = cluster.playbook("playbooks/deploy.yml", "-e", "app_watch_seconds=12", *release(path, before, after))
    assert done.returncode != 0
    assert words in done.stdout, done.stdout
    assert releases(cluster) == old
    assert pids(cluster, *cluster.apps[1:]) == others
    assert out(cluster) == []


def test_settings_roll_as_releases_do(cluster, unnoticed):
    """A changed setting of the app and of nginx, by site.yml."""
    before = pids(cluster, *cluster.apps)
    with unnoticed():
        done = cluster.playbook("site.yml", "-e", "app_threads=6", "-e", "nginx_read_timeout=31s")
    assert done.returncode == 0, done.stdout
    assert not set(before) & set(pids(cluster, *cluster.apps))
    assert len(set(runs(cluster).values())) == 1
