"""The status playbook, run by Ansible on this computer."""

import json
from pathlib import Path

import pytest
from lib.ansible_runs import ansible_playbook, inventory, write_inventory


@pytest.mark.parametrize("strategy", ["linear", "mitogen_linear"])
def test_a_cluster_without_any_reachable_host_is_reported(tmp_path: Path, strategy: str) -> None:
    """ssh fails for each host; the report is written nevertheless."""
    file = tmp_path / "report.json"
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexit 255\n")
    ssh.chmod(0o755)
    hosts = write_inventory(tmp_path, inventory(ansible_ssh_executable=str(ssh)))
    done = ansible_playbook("-i", hosts, "playbooks/status.yml", "-e", f"status_json={file}", ANSIBLE_STRATEGY=strategy)
    assert done.returncode == 0, done.stdout
    found = json.loads(file.read_text())
    assert {node["state"] for node in found["nodes"]} == {"unreachable"}
    assert len(found["problems"]) == 4
