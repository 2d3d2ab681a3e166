"""A node that can't be reached stops a run before it begins, or is done without."""

import re
import sys

import pytest
from lib.ansible_runs import ROOT, ansible_playbook

INVENTORY = """
all:
  vars: {ansible_connection: local, ansible_python_interpreter: "%s"}
  children:
    nginx: {hosts: {lb1: }}
    redis: {hosts: {redis1: }}
    app: {hosts: {app1: , app2: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}}}
"""


@pytest.mark.parametrize("limit", ["all", "app"])
@pytest.mark.parametrize("may_skip", [False, True])
def test_a_lost_node_stops_all_or_itself_alone(tmp_path, may_skip, limit):
    (tmp_path / "hosts.yml").write_text(INVENTORY % sys.executable)
    (tmp_path / "after.yml").write_text(
        f"- import_playbook: {ROOT}/playbooks/internal/connectivity.yml\n"
        "- hosts: all\n  gather_facts: false\n  tasks: [{ansible.builtin.debug: {msg: the run goes on}}]\n"
    )
    options = ("--limit", limit, "-e", "room_mb=0", *(["-e", "skip_unreachable=true"] if may_skip else []))
    done = ansible_playbook("-i", tmp_path / "hosts.yml", *options, tmp_path / "after.yml")
    went_on = set(re.findall(r"ok: \[(\w+)\] => \n    msg: the run goes on", done.stdout))
    assert done.returncode != 0
    if may_skip:
        assert went_on == ({"lb1", "redis1", "app1"} if limit == "all" else {"app1"}), done.stdout
    else:
        assert went_on == set()
        assert "app2 can't be reached" in done.stdout
