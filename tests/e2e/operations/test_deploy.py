"""Releases come, go, and fail, and no visitor notices."""

import json
import re
import threading
import time
from pathlib import Path

import pytest
from lib.deployments import out, pids, releases, runs
from lib.load_fixtures import FIGURES

pytestmark = pytest.mark.usefixtures("repaired")


@pytest.fixture
def timeline(cluster, tmp_path):
    """A file for the load's timeline, and marks: when which node was out. The drill gets both for a figure."""
    file = Path(FIGURES or tmp_path / "figures").with_name("deploy.json")
    marks, over = [], threading.Event()

    def note():
        before = set()
        while not over.wait(0.3):
            now = set(out(cluster))
            marks.extend({"time": time.time(), "event": f"{node} drained"} for node in sorted(now - before))
            marks.extend({"time": time.time(), "event": f"{node} undrained"} for node in sorted(before - now))
            before = now

    watch = threading.Thread(target=note)
    watch.start()
    yield file, marks
    over.set()
    watch.join()
    if not file.exists():
        return  # the load broke, and said why
    end = json.loads(file.read_text())[-1]["time"]
    file.with_name("deploy-marks.json").write_text(json.dumps([mark for mark in marks if mark["time"] < end]))


def away(timeline, node):
    """For how many seconds in a row others served and this node did not."""
    longest = now = 0
    for row in timeline[1:-1]:
        now = now + 1 if row["requests"] and node not in row["nodes"] else 0
        longest = max(longest, now)
    return longest


def test_a_deploy_and_its_rollback_go_unnoticed(cluster, unnoticed, release, timeline):
    """Node by node, each out of the balancer meanwhile; the same run and release on all; then the same way back."""
    old = releases(cluster)
    new = release()
    file, marks = timeline
    with unnoticed("deploy on 3 nodes", timeline=file):
        done = cluster.playbook("playbooks/deploy.yml", *new)
    assert done.returncode == 0, done.stdout
    assert len(set(runs(cluster).values())) == 1
    assert len(set(releases(cluster).values())) == 1
    assert releases(cluster) != old
    assert [mark["event"] for mark in marks] == [
        f"{node} {event}" for node in cluster.apps for event in ("drained", "undrained")
    ]
    # The first one is watched for 3 s before visitors are let in.
    assert away(json.loads(file.read_text()), cluster.apps[0]) >= 2

    with unnoticed("rollback"):
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


def replaced(old, new):
    """A change of a file."""
    return lambda text: text.replace(old, new, 1)


# The file, what becomes of it, words of the message; whether it is seen only once it runs.
BAD = {
    "does not start": ("src/anynode/__init__.py", replaced("from .config", "from .nothing"), "No module named", False),
    "has a wrong hash": (
        "requirements.lock",
        lambda text: re.sub("sha256:....", "sha256:0000", text),
        "DO NOT MATCH THE HASHES",
        False,
    ),
    "is never ready": ("src/anynode/health.py", replaced("current_store().ping()", "1 / 0"), "GET /readyz: 500", True),
    "lacks a file": ("src/anynode/templates/login_form.html", lambda _: None, "GET /: 500", True),
    "answers slowly": (
        "src/anynode/users.py",
        replaced("    assert session.created", '    __import__("time").sleep(3)\n    assert session.created'),
        "no answer within 2 s",
        True,
    ),
    "dies after a while": (
        "src/anynode/__init__.py",
        replaced(
            "    config = config or",
            "    import os, signal, threading\n"
            "    if 'PROMETHEUS_MULTIPROC_DIR' in os.environ:  # as a service, and not while it is only tried\n"
            "        threading.Timer(6, os.kill, (os.getppid(), signal.SIGKILL)).start()\n"
            "    config = config or",
        ),
        "after it worked",
        True,
    ),
}


# A page that fails is told as /readyz is (tests/unit/test_waiting.py); the drill sees it on machines.
@pytest.mark.parametrize("kind", [kind for kind in BAD if FIGURES or kind != "lacks a file"])
def test_a_bad_release_stops_at_the_first_node_and_is_put_back(cluster, unnoticed, release, kind):
    """The others are never touched, the message says what failed, and a good release needs no cleaning up."""
    path, change, words, shows_late = BAD[kind]
    old, before = releases(cluster), pids(cluster, *cluster.apps)
    with unnoticed(f"a release that {kind} is deployed", requests=2000):
        done = cluster.playbook("playbooks/deploy.yml", "-e", "app_soak_seconds=12", *release(path, change))
    assert done.returncode != 0
    assert words in done.stdout, done.stdout
    assert releases(cluster) == old
    after = pids(cluster, *cluster.apps)
    assert after[1:] == before[1:]
    assert (after[0] != before[0]) == shows_late
    assert out(cluster) == []


@pytest.mark.parametrize(
    ("tag", "setting", "words"),
    [
        ("nginx", "nginx_read_timeout=banana", '"proxy_read_timeout" directive invalid value'),
        ("redis", "redis_maxmemory=banana", "argument must be a memory value"),
        ("app", "app_session_idle_seconds=0", "APP_SESSION_IDLE_SECONDS must be"),
        ("app", "app_wsgi='anynode:nothing()'", "Failed to find attribute 'nothing' in 'anynode'"),
        ("app", '{"app_wsgi": "anynode:create_app(\\""}', "Unbalanced quoting"),
    ],
    ids=["nginx", "redis", "app", "gunicorn", "systemd"],
)
def test_a_bad_setting_is_refused_while_traffic_goes_on(cluster, unnoticed, tag, setting, words):
    """Before anything loads it, with the tool's own words."""
    before = pids(cluster, *cluster.apps)
    with unnoticed(f"site.yml -e {setting}", requests=200):
        done = cluster.playbook("site.yml", "--tags", tag, "-e", setting)
    assert done.returncode != 0
    assert words in " ".join(done.stdout.split()), done.stdout
    cluster.run(cluster.balancer, "nginx -t")  # nor does it lie there and wait
    assert pids(cluster, *cluster.apps) == before
    assert out(cluster) == []


def test_settings_roll_as_releases_do(cluster, unnoticed):
    """A changed setting of the app and of nginx, by site.yml; two of three nodes at once."""
    before = pids(cluster, *cluster.apps)
    with unnoticed("settings of nginx and the app change"):
        settings = ("app_threads=6", "nginx_read_timeout=31s", "app_batch_size=67%")
        done = cluster.playbook("site.yml", *(word for setting in settings for word in ("-e", setting)))
    assert done.returncode == 0, done.stdout
    assert not set(before) & set(pids(cluster, *cluster.apps))
    assert len(set(runs(cluster).values())) == 1
