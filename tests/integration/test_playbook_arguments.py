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
