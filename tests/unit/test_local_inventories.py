"""Each inventory of local hosts connects to them with the keys that roles/local_nodes creates."""

from pathlib import Path

import pytest
import yaml
from lib.ansible_runs import ROOT

INVENTORIES = [*ROOT.glob("inventory/*/hosts.yml"), *ROOT.glob("molecule/*/inventory/*.yml")]


def local_variables(path: Path) -> dict[str, object]:
    found: dict[str, object] = (
        yaml.safe_load(path.read_text())["all"]["children"].get("local_nodes", {}).get("vars", {})
    )
    return found


@pytest.mark.parametrize("path", [*filter(local_variables, INVENTORIES)], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_local_inventory_has_the_connection_variables(path: Path) -> None:
    expected = local_variables(ROOT / "inventory/local/hosts.yml")
    for name in ("ansible_user", "ansible_ssh_private_key_file", "ansible_ssh_common_args"):
        assert local_variables(path)[name] == expected[name]


def test_no_playbook_has_variables_of_its_own() -> None:
    """Ansible lets group_vars beside a playbook win over the inventory, silently."""
    assert [*ROOT.glob("group_vars"), *ROOT.glob("host_vars"), *ROOT.glob("playbooks/**/group_vars")] == []
