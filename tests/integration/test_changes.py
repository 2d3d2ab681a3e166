"""The callback plugin that sets host_changed."""

from pathlib import Path

import pytest
from lib.ansible_runs import ansible_playbook, write_inventory

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
def test_changed_hosts_have_a_variable(tmp_path: Path, strategy: str) -> None:
    """Hosts with a changed task of their own, of a delegation or of a failure; no other host."""
    hosts = {name: {"ansible_connection": "local"} for name in ("one", "two", "three", "four", "five")}
    inventory = write_inventory(tmp_path, {"all": {"hosts": hosts}})
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAY)
    done = ansible_playbook("-i", inventory, playbook, ANSIBLE_STRATEGY=strategy)
    assert done.returncode == 0, done.stdout
    assert "changed five four one." in done.stdout
