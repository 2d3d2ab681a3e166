"""Visitors who are there all along, and releases that differ."""

import shutil

import pytest
from lib.cluster import ROOT, cluster
from lib.deployments import out
from lib.load_fixtures import unnoticed, visitors

__all__ = ["cluster", "unnoticed", "visitors"]


@pytest.fixture
def release(tmp_path):
    """Make an app like the project's own, but for one file: release("app/file", lambda text: new text, or None)."""

    def make(path="src/anynode/notes.py", change="{}\n".format):
        source = tmp_path / f"app-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(ROOT / "app", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        file = source / path
        before = file.read_text()
        after = change(before)
        assert after != before, f"{path} has changed: mend the test"
        if after is None:
            file.unlink()
        else:
            file.write_text(f"{after}\n# {source}\n" if file.suffix == ".py" else after)
        return ["-e", f"app_source_dir={source}"]

    return make


@pytest.fixture(scope="module")
def repaired(cluster):
    """Whatever a file of tests leaves, site.yml mends: all nodes are in, with the release of the project's app/."""
    yield
    done = cluster.playbook("site.yml", "-e", "app_soak_seconds=0")
    assert done.returncode == 0, done.stdout
    assert out(cluster) == []
