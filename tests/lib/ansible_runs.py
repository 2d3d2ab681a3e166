"""Inventories, a small app, and runs of Ansible on the controller alone."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from werkzeug.security import generate_password_hash

ROOT = Path(__file__).resolve().parents[2]
SOURCES = f"{ROOT}/app/src:{ROOT}/packages/flask-shared-session/src"  # the PYTHONPATH of the demo app


def tool(name: str, package: str) -> str:
    """Return the path of a program, or skip the test if it is not installed."""
    path = shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
    if not path:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


def load_module(path: str) -> Any:
    """Import one of the project's Ansible modules or plugins, by its path in the project."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def inventory(apps: int = 2, network: str = "192.0.2.{}", **variables: Any) -> dict[str, Any]:
    """Return a valid inventory as a dictionary, which tests may change."""
    tiers = {
        "nginx": {"lb1": 10},
        "redis": {"redis1": 20},
        "app": {f"app{number}": 30 + number for number in range(1, apps + 1)},
    }
    children = {
        tier: {"hosts": {host: {"ansible_host": network.format(last)} for host, last in hosts.items()}}
        for tier, hosts in tiers.items()
    }
    # No test may connect to a host.
    return {"all": {"children": children, "vars": {"ansible_ssh_executable": "/bin/false"} | variables}}


def write_inventory(folder: Path, content: dict[str, Any] | str) -> Path:
    """Write an inventory, given as a dictionary or as YAML, into a directory of its own; return its path."""
    path = folder / "inventory" / "hosts.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def ansible_playbook(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run ansible-playbook in the project; return the finished process, with all output in `.stdout`.

    It uses the strategy of `make` unless the environment names another one.
    """
    settings = {"ANSIBLE_STRATEGY": "mitogen_linear"} | os.environ | environment
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *arguments],
        cwd=ROOT,
        env=settings | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass
class Cluster:
    """The files that Ansible rendered for an inventory, the address of each host, and the secrets by name."""

    files: Path
    addresses: dict[str, str]
    secrets: dict[str, str]

    @property
    def apps(self) -> list[str]:
        return [address for host, address in self.addresses.items() if host.startswith("app")]

    def text(self, name: str) -> str:
        return (self.files / name).read_text()

    def env(self, name: str) -> dict[str, str]:
        """Return the settings of a file of environment variables, unquoted."""
        lines = [line for line in self.text(name).splitlines() if line and not line.startswith("#")]
        return {key: value.strip("'") for key, value in (line.split("=", 1) for line in lines)}


def create_secrets(hosts: Path) -> None:
    """Create the secrets of an inventory as the first run of site.yml does, without running Ansible."""
    table = yaml.safe_load((ROOT / "roles/topology/vars/main/secrets.yml").read_text())["topology_secrets"]
    for step in load_module("plugins/modules/secret_files.py").created(hosts.parent / ".secrets", table):
        step()


def render(folder: Path, apps: int, network: str = "192.0.2.{}", limit: str = "all", **variables: Any) -> Cluster:
    """Render the files of a cluster into a directory with Ansible, those of nginx for the nginx of this computer.

    limit: hosts to render, as for --limit.
    """
    rendered = folder / "rendered"
    for name in ("lb1", "redis1", "app1", f"app{apps}"):
        (rendered / name).mkdir(parents=True, exist_ok=True)
    # Ports that need no privilege, for `nginx -t`; and a user beside the demo account.
    users = {"ada": generate_password_hash("correct horse", method="pbkdf2:sha256:1000")}
    edge = {"nginx_port": 18088, "nginx_tls_port": 18443, "nginx_server_names": ["localhost", "127.0.0.1", "::1"]}
    content = inventory(apps, network, **edge | {"app_users": users} | variables)
    hosts = write_inventory(folder, content)
    create_secrets(hosts)
    done = ansible_playbook("-i", hosts, "tests/lib/render.yml", "--limit", limit, "-e", f"rendered={rendered}")
    assert done.returncode == 0, done.stdout
    tiers = content["all"]["children"].values()
    return Cluster(
        files=rendered,
        addresses={host: options["ansible_host"] for tier in tiers for host, options in tier["hosts"].items()},
        secrets={path.name: path.read_text().strip() for path in (hosts.parent / ".secrets").iterdir()},
    )


def render_all(
    tmp_path_factory: pytest.TempPathFactory, apps: int, clusters: dict[str, dict[str, Any]], limit: str = "all"
) -> dict[str, Cluster]:
    """Render clusters of `apps` nodes, given as variables by name; return them by name."""
    with ThreadPoolExecutor(2) as pool:
        jobs = {
            name: pool.submit(render, tmp_path_factory.mktemp("cluster"), apps, limit=limit, **variables)
            for name, variables in clusters.items()
        }
    return {name: job.result() for name, job in jobs.items()}


def write_app(folder: Path) -> tuple[Path, dict[str, str]]:
    """Write an app with one locked package; return its directory and the environment in which pip finds the package.

    The package comes from a directory, so pip needs no package index.
    """
    wheel = folder / "wheels" / "tiny-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        metadata = "Metadata-Version: 2.4\nName: tiny\nVersion: 1.0\nLicense-Expression: MIT\n"
        archive.writestr("tiny-1.0.dist-info/METADATA", metadata)
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    app = folder / "app"
    package = app / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def create_app():\n    return None\n")
    (app / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "2.5"\n')
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (app / "requirements.lock").write_text(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n")
    return app, {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent)}
