"""What a run leaves on a machine that it changed."""

import json

import pytest
from lib.ansible_runs import ansible_playbook, load_module, write_inventory

audit_log = load_module("plugins/modules/audit_log.py")

RUN = {"id": "r1", "by": "ada@desk", "controller": "desk", "what": 'site.yml --tags "app"', "process": "1 2"}

PLAY = """
- hosts: one:two:three
  gather_facts: false
  connection: local
  vars: {ansible_pipelining: true}
  any_errors_fatal: false
  tasks:
    - command: "true"
      changed_when: false
    - command: "true"
      when: inventory_hostname == 'one'
    - command: "true"
      delegate_to: "{{ item }}"
      loop: [four]
      when: inventory_hostname == 'two'
    - command: "false"
      changed_when: true
      delegate_to: "{{ 'fi' ~ 've' }}"
      ignore_errors: true
      when: inventory_hostname == 'three'
- hosts: all
  gather_facts: false
  tasks:
    - debug:
        msg: "changed {{ changed | map(attribute='inventory_hostname') | sort | join(' ') }}."
      vars:
        changed: "{{ groups['all'] | map('extract', hostvars) | selectattr('host_changed', 'defined') }}"
      run_once: true
"""


@pytest.mark.parametrize("strategy", ["linear", "mitogen_linear"])
def test_a_run_knows_which_machines_it_changed(tmp_path, strategy):
    """Of itself, on behalf of others, and where it failed; not those that it left alone."""
    hosts = {name: {"ansible_connection": "local"} for name in ("one", "two", "three", "four", "five")}
    inventory = write_inventory(tmp_path, {"all": {"hosts": hosts}})
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAY)
    done = ansible_playbook("-i", inventory, playbook, ANSIBLE_STRATEGY=strategy)
    assert done.returncode == 0, done.stdout
    assert "changed five four one." in done.stdout


def test_one_line_a_run(tmp_path):
    log = tmp_path / "new" / "audit.log"
    for run in (RUN, RUN, RUN | {"id": "r2"}):
        audit_log.note(log, run, "1.0-abc")
    first, second = [json.loads(line) for line in log.read_text().splitlines()]
    assert (first["run"], second["run"]) == ("r1", "r2")
    told = {name: first[name] for name in ("by", "from", "what", "release")}
    assert told == {"by": "ada@desk", "from": "desk", "what": RUN["what"], "release": "1.0-abc"}


def test_only_a_machine_that_runs_a_release_names_one(tmp_path):
    assert audit_log.read_release(tmp_path / "none.json") is None
    (tmp_path / "deployment.json").write_text('{"release": "1.0-abc"}')
    assert audit_log.read_release(tmp_path / "deployment.json") == "1.0-abc"
    audit_log.note(tmp_path / "audit.log", RUN, None)
    assert "release" not in json.loads((tmp_path / "audit.log").read_text())
