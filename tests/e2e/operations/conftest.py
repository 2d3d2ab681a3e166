"""Releases that differ.

The scenario's files run in the order of molecule/operations/molecule.yml, since the cluster grows: test_scale.py begins
with a single app node and ends with two, test_drain.py ends with three.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from lib.cluster import ROOT


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Make a changed copy of the app: release("app/file", lambda text: new text, or None to remove the file).

    Returns the arguments with which a playbook deploys it.
    """

    def make(path: str = "src/anynode/notes.py", change: Callable[[str], str | None] = "{}\n".format) -> list[str]:
        source = tmp_path_factory.mktemp("release") / "app"
        for name in ("app", "packages"):  # the app names its local packages by their relative directories
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, source.with_name(name), ignore=ignored)
        file = source / path
        before = file.read_text()
        after = change(before)
        assert after != before, f"{path} has changed: fix the test"
        if after is None:
            file.unlink()
        else:
            file.write_text(f"{after}\n# {source}\n" if file.suffix == ".py" else after)
        return ["-e", f"app_source_dir={source}"]

    return make
