"""Packages are downloaded before they are installed; a mirror that is away is reported within a minute."""

import os
import subprocess
import time
from pathlib import Path

from lib.ansible_runs import ROOT, tool

DOWNLOAD = ROOT / "roles/common/files/download-packages"


def download(folder: Path, mirror: str, *packages: str) -> "subprocess.CompletedProcess[str]":
    """Run the script with an apt of its own: no lists yet, and a single mirror."""
    tool("apt-get", "apt")
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(f"deb [trusted=yes] {mirror} ./\n")
    settings = {
        "Dir::State::Lists": "lists",
        "Dir::Cache": "cache",
        "Dir::Etc::SourceList": "sources.list",
        "Dir::Etc::SourceParts": "parts",
        "Dir::Etc::Parts": "parts",
    }
    config = folder / "apt.conf"
    config.write_text(
        "".join(f'{key} "{folder / value}";\n' for key, value in settings.items()) + "APT::Sandbox::User root;\n"
    )
    environ = os.environ | {"APT_CONFIG": str(config), "LC_ALL": "C"}
    return subprocess.run([DOWNLOAD, *packages], env=environ, capture_output=True, text=True, check=False)


def test_a_mirror_that_can_not_be_reached_is_named_with_the_reason(tmp_path: Path) -> None:
    start = time.monotonic()
    done = download(tmp_path, "http://127.0.0.1:1/debian", "nginx")
    assert done.returncode != 0
    assert "http://127.0.0.1:1/debian" in done.stderr
    assert "Connection refused" in done.stderr
    assert time.monotonic() - start < 60


def test_nothing_is_downloaded_without_a_package(tmp_path: Path) -> None:
    """In check mode, only the lists are refreshed, unless they are of today."""
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "Packages").write_text("")
    done = download(tmp_path, f"file:{repository}")
    assert done.returncode == 0, done.stderr
    (repository / "Packages").unlink()
    assert download(tmp_path, f"file:{repository}").returncode == 0
    missing = download(tmp_path, f"file:{repository}", "no-such-package")
    assert missing.returncode != 0
    assert "Unable to locate package no-such-package" in missing.stderr
