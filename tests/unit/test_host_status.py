"""Disks of a host."""

import os
from pathlib import Path

import pytest
from lib.ansible_runs import load_module

host_status = load_module("plugins/modules/host_status.py")


def test_each_file_system_is_reported_once(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (disk,) = host_status.disks([str(tmp_path), str(below)])
    assert os.path.ismount(disk["path"])
    assert 0 < disk["free"] < disk["size"]
    assert disk["free_inodes"] <= disk["inodes"]


def test_writable_file_systems_below_a_path_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition of a service's own may be full while its parent isn't."""
    for name in ("log", "with blank", "image", "srv"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"proc /proc proc rw,nosuid 0 0\n/dev/a {tmp_path}/log ext4 rw,relatime 0 0\n"
        f"/dev/b {tmp_path}/with\\040blank ext4 rw 0 0\n/dev/c {tmp_path}/image squashfs ro 0 0\n"
        f"/dev/d {tmp_path}/file ext4 rw 0 0\n/dev/e /elsewhere ext4 rw 0 0\n"
    )
    monkeypatch.setattr(host_status, "MOUNTS", mounts)
    own, *below = host_status.mount_points([str(tmp_path)])
    assert os.path.ismount(own)
    assert below == [f"{tmp_path}/log", f"{tmp_path}/with blank"]


def test_the_last_operation(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    assert host_status.last_operation(log) == {}
    log.write_text('{"by": "ada@desk"}\n{"by": "bob@desk"}\n')
    assert host_status.last_operation(log) == {"by": "bob@desk"}
    log.write_text("cut")
    assert host_status.last_operation(log) == {}
