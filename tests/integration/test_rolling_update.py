"""The rolling update, run by Ansible on the controller with modules that record their calls and fail on request."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lib.ansible_runs import ROOT, ansible_playbook, create_secrets, inventory, write_app, write_inventory

# Each module writes a line to `events`, and fails if a file with that line as its name exists.
MODULE = '''#!/usr/bin/python
import os
from pathlib import Path
from ansible.module_utils.basic import AnsibleModule
OPTIONS = """root name reads state id by reason keep release drain undrain undrain_kinds addresses timeout host port
unit username password start_seconds slow_seconds soak_seconds run operation deployment noted_by""".split()
module = AnsibleModule(argument_spec={name: {"type": "raw", "no_log": name == "password"} for name in OPTIONS})
args = module.params
folder = Path("FOLDER")
if "NAME" == "nginx_upstream":
    event = f"drain {args['drain'][0]}" if args["drain"] else f"undrain {args['undrain'][0]}"
elif "NAME" == "app_health_check":
    event = f"check {args['host']} {args['release']} {args['soak_seconds'] or 0}"
elif "NAME" == "app_deployment":
    event = f"{args['state']} {Path(args['root']).name}"
else:
    event = "audit"
with (folder / "events").open("a") as log:
    log.write(event + "\\n")
if (folder / event).exists():
    module.fail_json(msg=f"{event} failed")
module.exit_json(changed=True, current={"release": "1-a"}, drained={})
'''
ADDRESS = {"app1": "192.0.2.31", "app2": "192.0.2.32", "app3": "192.0.2.33"}


class Update:
    """A run of the rolling update's last two plays on nodes with the given need of an update."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "modules").mkdir()
        for name in ("nginx_upstream", "app_deployment", "app_health_check", "audit_log"):
            text = MODULE.replace("FOLDER", str(folder)).replace("NAME", name)
            (folder / "modules" / f"{name}.py").write_text(text)

    def fail(self, event: str) -> None:
        (self.folder / event).touch()

    def run(self, batch_size: int = 1, **needs: str) -> tuple[int, str]:
        """Return the exit code and the output."""
        plays = yaml.safe_load((ROOT / "playbooks/internal/rolling_update.yml").read_text())[1:]
        fact = {"ansible.builtin.set_fact": {"app_update": "{{ needs[inventory_hostname] }}"}}
        operation = {"ansible.builtin.set_fact": {"deploy_lock_operation": {"id": "r1", "by": "ada@desk"}}}
        first = {"hosts": "app", "gather_facts": False, "vars": {"needs": needs}, "tasks": [fact, operation]}
        playbook = self.folder / "update.yml"
        playbook.write_text(yaml.safe_dump([first, *plays], sort_keys=False))
        variables: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_become": False,
            "app_root": "/srv/{{ inventory_hostname }}",
            "app_release": "2-b",
            "app_batch_size": batch_size,
        }
        hosts = write_inventory(self.folder, inventory(3, **variables))
        create_secrets(hosts)
        library = f"{self.folder / 'modules'}:{ROOT / 'plugins/modules'}"
        done = ansible_playbook("-i", str(hosts), str(playbook), "-e", "ansible_become=false", ANSIBLE_LIBRARY=library)
        return done.returncode, done.stdout

    def events(self) -> list[str]:
        """Return the calls so far, without the audit log's."""
        return [each for each in (self.folder / "events").read_text().splitlines() if each != "audit"]

    def audits(self) -> int:
        return (self.folder / "events").read_text().splitlines().count("audit")


@pytest.fixture
def update(tmp_path: Path) -> Iterator[Update]:
    yield Update(tmp_path)


def updated(node: str, soak: int) -> list[str]:
    """Return the calls that update a node alone."""
    check = f"check {ADDRESS[node]} 2-b {soak}"
    return [f"drain {node}", f"active {node}", check, f"good {node}", f"undrain {node}", f"pruned {node}"]


def test_nodes_are_drained_updated_checked_and_undrained_one_by_one(update: Update) -> None:
    """Nodes without a deployment come first, and only the first batch has a soak time."""
    code, output = update.run(app1="rolling", app2="rolling", app3="first")
    assert code == 0, output
    assert update.events() == updated("app3", 0) + updated("app1", 75) + updated("app2", 0)
    assert update.audits() == 3


def test_a_node_without_changes_is_left_alone(update: Update) -> None:
    code, output = update.run(app1="none", app2="rolling", app3="none")
    assert code == 0, output
    assert update.events() == updated("app2", 75)


def test_a_node_that_fails_is_restored_and_no_further_node_changes(update: Update) -> None:
    update.fail("check 192.0.2.32 2-b 0")
    code, output = update.run(app1="rolling", app2="rolling", app3="rolling")
    assert code != 0
    assert update.events() == [
        *updated("app1", 75),
        *["drain app2", "active app2", "check 192.0.2.32 2-b 0"],
        *["bad app2", "restored app2", "check 192.0.2.32 1-a 0", "undrain app2"],
    ]
    text = " ".join(output.split())
    assert "app2: release 2-b with these settings does not work." in text
    assert "Run the health check: check 192.0.2.32 2-b 0 failed" in text
    assert "The node serves 1-a again, as before." in text
    assert update.audits() == 2


def test_all_nodes_of_a_batch_are_restored(update: Update) -> None:
    update.fail("active app2")
    code, output = update.run(batch_size=2, app1="rolling", app2="rolling", app3="rolling")
    assert code != 0
    events = update.events()
    for node in ("app1", "app2"):
        assert [each for each in events if node in each or ADDRESS[node] in each][-3:] == [
            f"restored {node}",
            f"check {ADDRESS[node]} 1-a 0",
            f"undrain {node}",
        ]
    assert not [each for each in events if "app3" in each or each.startswith("good")]
    assert "Another node of its batch failed or became unreachable." in output


def test_a_node_that_can_not_be_restored_stays_drained(update: Update) -> None:
    update.fail("check 192.0.2.31 2-b 75")
    update.fail("restored app1")
    code, output = update.run(app1="rolling", app2="rolling", app3="rolling")
    assert code != 0
    assert update.events()[-2:] == ["bad app1", "restored app1"]
    assert "Restoring failed, too (Restore the last good deployment: restored app1 failed)" in " ".join(output.split())


def test_a_drain_that_fails_restores_the_whole_batch(update: Update) -> None:
    """The balancer is at fault, not the nodes; the batch is restored nevertheless."""
    update.fail("drain app2")
    code, output = update.run(batch_size=3, app1="rolling", app2="rolling", app3="rolling")
    assert code != 0
    events = update.events()
    assert [each for each in events if each.startswith("undrain")] == ["undrain app1", "undrain app2", "undrain app3"]
    assert not [each for each in events if each.startswith("good")]


@pytest.fixture
def prepare(tmp_path: Path) -> Iterator[str]:
    """The output of the first play in check mode with a diff, for nodes without any deployment."""
    (play,) = yaml.safe_load((ROOT / "playbooks/internal/rolling_update.yml").read_text())[:1]
    report = {
        "ansible.builtin.debug": {
            "msg": "update of {{ inventory_hostname }}: {{ app_update }} because {{ __app_prepared.outdated | join }}"
        }
    }
    playbook = tmp_path / "prepare.yml"
    playbook.write_text(
        yaml.safe_dump([play, {"hosts": "app", "gather_facts": False, "tasks": [report]}], sort_keys=False)
    )
    app, environment = write_app(tmp_path)
    variables = {
        "ansible_connection": "local",
        "app_root": f"{tmp_path}/srv/{{{{ inventory_hostname }}}}",
        "app_source_dir": str(app),
        "app_build_dir": str(tmp_path / "builds"),
    }
    hosts = write_inventory(tmp_path, inventory(2, **variables))
    create_secrets(hosts)
    arguments = ["-i", str(hosts), str(playbook), "-e", "ansible_become=false", "--check", "--diff"]
    done = ansible_playbook(*arguments, **environment)
    assert done.returncode == 0, done.stdout
    yield done.stdout
    assert not (tmp_path / "srv").exists()


def test_check_mode_prepares_nothing_and_shows_no_secret(prepare: str, tmp_path: Path) -> None:
    assert "+APP_NODE=app2" in prepare
    assert prepare.count("secrets.env: the secrets changed; they are not shown") == 2
    secrets = [path.read_text().strip() for path in (tmp_path / "inventory/.secrets").iterdir()]
    assert len(secrets) > 2
    assert [secret for secret in secrets if secret in prepare] == []
    for node in ("app1", "app2"):
        assert f"update of {node}: none because nothing is deployed yet" in prepare
