"""What several of these tests need: inventories, a tiny app, and Ansible on the controller alone."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def inventory(apps=2, network="192.0.2.{}", **variables):
    """Return a good inventory as a dictionary, which tests may spoil."""
    tiers = {
        "nginx": {"lb1": 10},
        "redis": {"redis1": 20},
        "app": {f"app{number}": 30 + number for number in range(1, apps + 1)},
    }
    children = {
        tier: {"hosts": {host: {"ansible_host": network.format(last)} for host, last in hosts.items()}}
        for tier, hosts in tiers.items()
    }
    # Whoever does reach out for a machine, against all intent, gets nowhere.
    return {"all": {"children": children, "vars": {"ansible_ssh_executable": "/bin/false"} | variables}}


def write_inventory(folder, content):
    """Write an inventory, given as a dictionary or as text, into a directory of its own; return its path."""
    path = folder / "inventory" / "hosts.yml"
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def ansible_playbook(*arguments, **environment):
    """Run ansible-playbook in the project; return the finished process, with all output in `.stdout`.

    With the strategy that `make` chooses, unless the caller's environment names another.
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


def write_app(folder):
    """Write an app with one locked package; return its directory and the environment in which pip finds the package.

    The package comes from a directory, so no package index is asked.
    """
    wheel = folder / "wheels" / "tiny-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
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
