"""The virtual environment gets locked packages only, and no package is built."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from lib.ansible_runs import ROOT, write_app

# A build backend that needs no other package, and creates a file when it runs.
BACKEND = """
from pathlib import Path

def build_wheel(directory, *_options):
    Path("{mark}").touch()

prepare_metadata_for_build_wheel = get_requires_for_build_wheel = build_wheel
"""


Install = Callable[..., tuple[bool, str]]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Return a function that runs scripts/venv with a pip that changes nothing: (success, stderr)."""
    _app, environment = write_app(tmp_path)
    (tmp_path / "scripts").mkdir()
    for name in ("venv", "common.sh"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
    pip = tmp_path / ".venv" / "bin" / "pip"
    pip.parent.mkdir(parents=True)
    pip.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pip "$@" --dry-run --ignore-installed\n')
    pip.chmod(0o755)

    def run(*lines: str) -> tuple[bool, str]:
        (tmp_path / "lock.txt").write_text("\n".join(lines) + "\n")
        command: list[str | Path] = [tmp_path / "scripts" / "venv", "lock.txt"]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
        return done.returncode == 0, done.stderr

    return run


def sha256(path: Path) -> str:
    return f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_locked_wheel_is_installed(install: Install, tmp_path: Path) -> None:
    assert install(f"tiny==1.0 {sha256(next((tmp_path / 'wheels').iterdir()))}") == (True, "")


@pytest.mark.parametrize("hashes", ["", f"--hash=sha256:{64 * '0'}"])
def test_a_package_without_its_hash_is_refused(install: Install, hashes: str) -> None:
    ok, stderr = install(f"tiny==1.0 {hashes}")
    assert not ok
    assert "hash" in stderr.lower()


def test_no_package_is_built(install: Install, tmp_path: Path) -> None:
    """A build would download and run packages that no lock file has."""
    mark = tmp_path / "it ran"
    source = tmp_path / "wheels" / "odd-1.0.tar.gz"
    backend = 'build-backend = "backend"\nbackend-path = ["."]\n'
    files = {"pyproject.toml": f"[build-system]\nrequires = []\n{backend}", "backend.py": BACKEND.format(mark=mark)}
    with tarfile.open(source, "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"odd-1.0/{name}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    ok, stderr = install(f"odd==1.0 {sha256(source)}")
    assert not ok
    assert not mark.exists(), stderr
