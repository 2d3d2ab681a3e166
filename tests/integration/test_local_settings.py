"""Settings of an inventory win over the defaults of local hosts."""

from pathlib import Path

import yaml
from lib.ansible_runs import ROOT, ansible_playbook, inventory, write_inventory

NAMES = {
    "ansible_user": "alice",
    "local_nodes_user": "alice",
    "local_nodes_ssh_dir": "/keys",
    "nginx_hsts_seconds": 60,
    "nginx_requests_per_second": 7,
    "nginx_connections_per_client": 8,
    "firewall_connections_per_client": 9,
}
ROLES = [
    {"ansible.builtin.import_role": {"name": role, "rolespec_validate": False}, "tags": ["never"]}
    for role in ("local_nodes", "nginx", "firewall")
]
PLAY = [
    {
        "hosts": "lb1",
        "connection": "local",
        "gather_facts": False,
        "roles": ["topology"],
        "tasks": [
            *ROLES,
            {"ansible.builtin.copy": {"content": "{{ values | to_json }}", "dest": "{{ file }}", "mode": "0600"}},
        ],
        "vars": {"values": {name: "{{ " + name + " }}" for name in NAMES}, "ansible_python_interpreter": "python3"},
    }
]


def settings(folder: Path, **variables: object) -> dict[str, object]:
    """Return the values of a local host whose inventory has these `vars` in its group local_nodes.

    The playbook lies beside the project's playbooks, as variables of a playbook's directory would count otherwise.
    """
    content = inventory(local_nodes_subnet="192.0.2.0/24")
    content["all"]["children"]["local_nodes"] = {
        "children": {"nginx": None, "redis": None, "app": None},
        "vars": {"ansible_user": "ops"} | variables,
    }
    hosts = write_inventory(folder, content)
    playbook = ROOT / "playbooks" / f"test-{folder.name}.yml"
    playbook.write_text(yaml.safe_dump(PLAY))
    try:
        done = ansible_playbook("-i", hosts, playbook, "-e", f"file={folder / 'values.json'}")
    finally:
        playbook.unlink()
    assert done.returncode == 0, done.stdout
    found: dict[str, object] = yaml.safe_load((folder / "values.json").read_text())
    return {name: int(str(value)) if isinstance(NAMES[name], int) else value for name, value in found.items()}


def test_a_value_of_the_group_local_nodes_wins(tmp_path: Path) -> None:
    assert settings(tmp_path, **{name: value for name, value in NAMES.items() if name != "local_nodes_user"}) == NAMES


def test_local_hosts_have_high_limits_by_default(tmp_path: Path) -> None:
    """All clients of a local cluster have one address."""
    found = settings(tmp_path)
    assert found["nginx_hsts_seconds"] == 0
    assert found["nginx_requests_per_second"] == 5000
    assert found["local_nodes_user"] == "ops"
    assert found["local_nodes_ssh_dir"] == f"{tmp_path}/inventory/.secrets/ssh"
