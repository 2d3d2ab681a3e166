"""The exposure of the services: the rating of the installed units by the systemd of each Debian release.

Offline, from files: on local hosts a drop-in of the image disables directives that a container does not support.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from lib.ansible_runs import ROOT, render
from lib.redis_server import TREES, unpacked_program

# Highest exposure of each service; 0 is none, 10 is full.
LIMITS = {"anynode": 1.5, "redis-server": 1.5, "nginx": 2.5}


@pytest.fixture(scope="module")
def app_unit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(render(tmp_path_factory.mktemp("cluster"), 1).files) / "app1" / "anynode.service"


@pytest.fixture(params=["bookworm", "trixie"])
def host(request: pytest.FixtureRequest, tmp_path: Path, app_unit: Path) -> tuple[str, Path]:
    """The name of a Debian release, and a directory with its units of the three services and the roles' drop-ins."""
    packaged, ours = tmp_path / "usr/lib/systemd/system", tmp_path / "etc/systemd/system"
    packaged.mkdir(parents=True)
    ours.mkdir(parents=True)
    for service in ("nginx", "redis-server"):
        tree = TREES / request.param
        units = [tree / folder / f"lib/systemd/system/{service}.service" for folder in ("usr", "")]
        shutil.copy(next(filter(Path.exists, units)), packaged)
    for folder in ROOT.glob("roles/*/files/*.service.d"):
        shutil.copytree(folder, ours / folder.name)
    (ours / "nginx.service.d").mkdir()
    shutil.copy(ROOT / "roles/nginx/files/sandbox.conf", ours / "nginx.service.d" / "anynode.conf")
    shutil.copy(app_unit, ours)
    return request.param, tmp_path


@pytest.mark.parametrize("service", LIMITS)
def test_a_service_has_little_exposure(host: tuple[str, Path], service: str) -> None:
    release, root = host
    analyze = unpacked_program(release, "usr/bin/systemd-analyze")
    command = [*analyze, "security", "--offline=true", f"--root={root}", "--no-pager", f"{service}.service"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(rf"exposure level for {service}.service: ([\d.]+)", done.stdout)
    assert found, done.stdout
    exposure = float(found[1])
    print(f"{service}, Debian {release}: {exposure}")
    assert exposure <= LIMITS[service], done.stdout
    assert str(root) not in done.stderr, "systemd doesn't accept all directives"
