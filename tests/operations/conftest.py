"""Visitors who are there all along, and releases that differ."""

import math
import os
import shutil

import pytest
from support.cluster import ROOT, cluster
from support.load import assert_nobody_noticed, load
from support.nodes import out

__all__ = ["cluster"]

# `make drill` sets it: the full size of the load, and waits are held against their limits. Elsewhere only counts are
# asserted, since a busy computer's pauses say nothing about a deploy.
DRILL = "ANYNODE_DRILL" in os.environ
REQUESTS = 20_000 if DRILL else 2000


@pytest.fixture
def visitors(cluster, tmp_path):
    """Load through the balancer while the block runs; leaves its result in `.result`."""

    def begin(**options):
        options = {"requests": REQUESTS, "timeline": tmp_path / "timeline.json"} | options
        return load(cluster.url(cluster.balancer), cluster.account, **options)

    return begin


@pytest.fixture
def unnoticed(visitors):
    """Load in which nobody may notice anything: no failed request, no lost session or write."""

    class Unnoticed:
        def __init__(self, worst_wait=1, **options):
            self.worst_wait, self.load = worst_wait, visitors(**options)

        def __enter__(self):
            self.run = self.load.__enter__()
            return self.run

        def __exit__(self, *error):
            self.load.__exit__(*error)
            if error[0] is None:
                assert_nobody_noticed(self.run.result, self.worst_wait if DRILL else math.inf)

    return Unnoticed


@pytest.fixture
def release(tmp_path):
    """Make an app's directory like the project's own, but for one file: release(\"health.py\", old=new)."""

    def make(path="notes.py", old=None, new=""):
        source = tmp_path / f"app-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(ROOT / "app", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        file = source / "src" / "anynode" / path
        text = file.read_text()
        assert old is None or text.count(old) == 1, f"{path} must have this once: {old}"
        file.write_text(text.replace(old, new) if old else text + f"\n# {source}\n")
        return ["-e", f"app_source_dir={source}"]

    return make


@pytest.fixture(autouse=True, scope="module")
def repaired(cluster):
    """Whatever a file of tests left, site.yml mends: all nodes are in, with the release of the project's app/."""
    yield
    done = cluster.playbook("site.yml", "-e", "app_watch_seconds=0")
    assert done.returncode == 0, done.stdout
    assert out(cluster) == []
