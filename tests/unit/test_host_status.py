"""Disks of a host, and units that run with older files."""

import os
from pathlib import Path

from lib.ansible_runs import load_module

host_status = load_module("plugins/modules/host_status.py")
unit_outdated = load_module("plugins/modules/unit_outdated.py")


def test_each_file_system_is_reported_once(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (disk,) = host_status.disks([str(tmp_path), str(below)])
    assert os.path.ismount(disk["path"])
    assert 0 < disk["free"] < disk["size"]


def test_the_times_of_systemd_are_parsed() -> None:
    assert unit_outdated.parse("Sun 2026-11-22 15:12:19.500000 UTC") == 1795360339.5


def test_a_file_that_changed_later_is_reported(tmp_path: Path) -> None:
    """A rename counts as a change; a missing file doesn't."""
    old = tmp_path / "old"
    old.write_text("")
    read = os.lstat(old).st_ctime
    new, link = tmp_path / "new", tmp_path / "link"
    os.utime(old, (1, 1))  # the content's time is older now
    link.symlink_to("nowhere")
    assert unit_outdated.newer([str(old), str(link), str(tmp_path / "none")], read - 1) == [str(old), str(link)]
    assert unit_outdated.newer([str(old)], os.lstat(old).st_ctime) == []
    old.rename(new)
    assert unit_outdated.newer([str(new)], read) == [str(new)]
