"""Invalid arguments of playbooks are refused before a host is contacted."""

from pathlib import Path

import pytest
from lib.ansible_runs import ansible_playbook, inventory, write_inventory


@pytest.mark.parametrize(
    ("playbook", "argument", "message"),
    [
        ("maintenance", "state=maybe", "state=on"),
        ("drain", "node=app9", "app9 is not an app node"),
        ("logs", "request_id='; reboot'", "request_id=ID"),
    ],
)
def test_an_invalid_argument_is_refused(tmp_path: Path, playbook: str, argument: str, message: str) -> None:
    """The message has the arguments that are valid; a contact would be reported as UNREACHABLE."""
    hosts = write_inventory(tmp_path, inventory())
    done = ansible_playbook("-i", hosts, f"playbooks/{playbook}.yml", "-e", argument)
    assert done.returncode != 0
    assert message in " ".join(done.stdout.split()), done.stdout
    assert "UNREACHABLE" not in done.stdout


def test_the_validation_and_the_lock_can_not_be_skipped(tmp_path: Path) -> None:
    hosts = write_inventory(tmp_path, inventory())
    done = ansible_playbook("-i", hosts, "site.yml", "--skip-tags", "nginx,always")
    assert done.returncode == 1
    assert "--skip-tags always skips the validation of the inventory and the deploy lock." in done.stdout
    assert "PLAY [" not in done.stdout
