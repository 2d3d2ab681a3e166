"""How the cluster is: what is a problem, what is on purpose, and what people and programs get to read."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from lib.ansible_runs import ROOT, ansible_playbook, inventory, load_module, write_inventory

status = load_module("plugins/filter/status.py")
redis_status = load_module("plugins/modules/redis_status.py")

GROUPS = {"nginx": ["lb1"], "redis": ["redis1"], "app": ["app1", "app2"]}
ADDRESSES = {"lb1": "192.0.2.10", "redis1": "192.0.2.20", "app1": "192.0.2.31", "app2": "192.0.2.32"}
DRAINED = {"kind": "drain", "by": "ada@desk", "since": "2026-11-22T10:00:00Z", "reason": "new disk"}
GIGABYTES = 10**9


def certificate(days, ca_days=3650):
    ends = [datetime.now(UTC) + timedelta(days=each, minutes=1) for each in (days, ca_days)]
    return {"stdout": "\n".join(f"notAfter={end:%b %d %H:%M:%S %Y} GMT" for end in ends)}


def disks(free=50, size=100):
    return {"stdout_lines": ["Avail 1B-blocks Mounted on", f"{round(free * GIGABYTES)} {size * GIGABYTES} /"]}


def app_node(**changes):
    current = {"release": "1.0-abc", "run": "r1", "started": "2026-11-22T09:00:00.000+00:00"}
    return {
        "status_disks": disks(),
        "__app_deployment_told": {"current": current, "outdated": []},
        "__app_told": {"state": "ready", "reason": "", "release": "1.0-abc"},
        "redis_status": {"skipped": True},
    } | changes


@pytest.fixture
def told():
    """What the playbook registered, of a cluster that is well."""
    redis = {
        "changed": False,
        "state": "ready",
        "reason": "",
        "redis_version": "8.0.2",
        "used_memory": 1_500_000,
        "maxmemory": 256_000_000,
        "aof_enabled": True,
        "aof_last_write_status": "ok",
        "rdb_last_bgsave_status": "ok",
        "appendfsync": "everysec",
        "connected_clients": 9,
        "sessions": 12,
        "sessions_counted": True,
    }
    return {
        "lb1": {
            "status_disks": disks(),
            "__nginx_unit": {"stdout": "active"},
            "__nginx_upstream_told": {"nodes": ["app1", "app2"], "drained": {}},
            "__deploy_lock_told": {"held_by": None},
        },
        "redis1": {"status_disks": disks(), "redis_status": redis, "status_certificate": certificate(60)},
        "app1": app_node(),
        "app2": app_node(),
    }


def report(told, asked=tuple(ADDRESSES)):
    return status.status_report(told, GROUPS, ADDRESSES, asked)


def problems(told):
    return report(told)["problems"]


def test_a_cluster_that_is_well(told):
    found = report(told)
    assert (found["well"], found["problems"], found["warnings"]) == (True, [], [])
    table = status.status_table(found)
    assert table.splitlines()[3].split()[:6] == ["app1", "app", "192.0.2.31", "ready", "in", "1.0-abc"]
    assert "sessions: 12" in table
    assert table.endswith("All is well.")


@pytest.mark.parametrize(("days", "said"), [(13, "ends in 13 days"), (-2, "ended 2 days ago")])
def test_a_certificate_near_its_end_is_a_warning(told, days, said):
    told["redis1"]["status_certificate"] = certificate(days)
    (warning,) = report(told)["warnings"]
    assert warning.startswith(f"redis1: its certificate {said}; ")
    assert f"warning: {warning}" in status.status_table(report(told))
    assert status.status_report(told, GROUPS, ADDRESSES, tuple(ADDRESSES), warn_days=-9)["warnings"] == []


def test_until_when_certificates_are_valid(told):
    node = report(told)["nodes"][1]
    assert node["certificate_days"] == 60
    assert node["certificate_until"].endswith("+00:00")
    assert "The certificate of redis1 is valid until 20" in status.status_table(report(told))


def test_a_ca_near_its_end_is_a_warning(told):
    told["redis1"]["status_certificate"] = certificate(100, ca_days=9)
    assert report(told)["warnings"] == ["redis1: the inventory's CA ends in 9 days; docs/tls.md says how to replace it"]


def test_a_certificate_that_can_not_be_read_is_a_warning_where_there_should_be_one(told):
    told["redis1"]["status_certificate"] = {"stdout": "", "rc": 1}
    told["app1"]["status_certificate"] = {"skipped": True}
    (warning,) = report(told)["warnings"]
    assert warning.startswith("redis1: nobody can tell until when its certificate is valid")
    assert "The certificate of redis1 is valid" not in status.status_table(report(told))


def test_a_node_that_cannot_be_reached(told):
    told["app2"] = {"status_disks": {"unreachable": True, "msg": "timed\nout"}}
    assert problems(told) == ["app2 is unreachable: timed out"]


def test_a_node_that_a_person_drained_may_be_in_any_state(told):
    told["lb1"]["__nginx_upstream_told"]["drained"] = {"app2": DRAINED}
    told["app2"] = {"status_disks": {"unreachable": True, "msg": "no"}}
    found = report(told)
    assert found["well"]
    assert found["nodes"][3]["balancers"] == {"lb1": {"in": False, "nodes": True} | DRAINED}
    assert "app2 is out of lb1 since 2026-11-22 10:00:00Z, by ada@desk: new disk" in status.status_table(found)


def test_a_node_that_a_run_took_out_is_a_problem_once_that_run_is_over(told):
    told["lb1"]["__nginx_upstream_told"]["drained"] = {
        "app2": {"kind": "deployment", "deployment": "r9", "reason": "a run changes it"}
    }
    assert problems(told) == ["app2 is out of lb1: a run changes it"]
    told["lb1"]["__deploy_lock_told"]["held_by"] = {"id": "r9", "by": "eve@desk", "what": "site.yml"}
    assert problems(told) == []
    warning = "app2 is out of lb1 by the run that holds the lock; if that run is over, run it again"
    assert report(told)["warnings"] == [warning]


def test_a_node_that_is_not_ready_says_why(told):
    told["app1"]["__app_told"] = {"state": "not ready", "reason": "session store unavailable", "release": "1.0-abc"}
    assert problems(told) == ["app1 is not ready: session store unavailable"]


def test_a_node_that_answers_as_another_release(told):
    told["app1"]["__app_told"]["release"] = "0.9-old"
    assert problems(told) == ["app1 answers as release 0.9-old, but 1.0-abc is what it should run"]


def test_nodes_that_run_different_releases_are_a_warning(told):
    told["app1"]["__app_deployment_told"]["current"]["release"] = "0.9-old"
    told["app1"]["__app_told"]["release"] = "0.9-old"
    assert report(told)["warnings"] == ["app nodes run different releases: app1 0.9-old, app2 1.0-abc"]


def test_a_node_that_the_balancer_does_not_know(told):
    told["lb1"]["__nginx_upstream_told"]["nodes"] = ["app1"]
    assert problems(told) == ["app2 is unknown to lb1"]


def test_a_balancer_that_does_not_run(told):
    told["lb1"]["__nginx_unit"] = {"stdout": "failed"}
    assert problems(told) == ["lb1 is stopped: nginx.service is failed"]


def test_a_redis_that_cannot_write(told):
    told["redis1"]["redis_status"]["aof_last_write_status"] = "err"
    assert problems(told) == ["redis1 has aof_last_write_status err"]


@pytest.mark.parametrize(("free", "size", "warns"), [(9, 100, True), (11, 100, False), (0.9, 2, True), (1.1, 2, False)])
def test_a_disk_that_is_nearly_full_is_a_warning_and_no_problem(told, free, size, warns):
    told["app1"]["status_disks"] = disks(free, size)
    found = report(told)
    assert bool(found["warnings"]) is warns
    assert found["well"]


def test_a_redis_that_is_nearly_full_is_a_warning(told):
    told["redis1"]["redis_status"]["used_memory"] = 240_000_000
    assert "240 MB of 256 MB" in report(told)["warnings"][0]


def test_only_who_was_asked_is_listed(told):
    found = report({"app2": told["app2"]}, ["app2"])
    assert [node["name"] for node in found["nodes"]] == ["app2"]
    assert found["well"]


def test_programs_get_json_alone_and_a_status_to_judge_by(told):
    told["lb1"]["__nginx_unit"] = {"stdout": "failed"}
    for given, expected in ((report(told), 1), (report(told) | {"well": True}, 0)):
        done = subprocess.run(
            [sys.executable, ROOT / "plugins/filter/status.py", "--json"],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
        assert json.loads(done.stdout) == given
        assert done.returncode == expected


class FakeRedis:
    """Answers DBSIZE and SCAN from a list, ten keys at a time; the first batch comes twice."""

    def __init__(self, keys):
        self.keys = keys

    def query(self, command, cursor=None, *_count):
        if command == "DBSIZE":
            return len(self.keys)
        begin = int(cursor)
        end = 0 if begin + 10 >= len(self.keys) else begin + 10
        return str(end), self.keys[begin : begin + 10] + (self.keys[:10] if begin == 10 else [])


def test_sessions_are_counted_or_guessed_from_a_sample():
    keys = [f"p:session:{n}" if n % 2 else f"p:user:{n}" for n in range(1000)]
    assert redis_status.count(FakeRedis(keys), "p:session:", 5000) == (500, True)
    guess, counted = redis_status.count(FakeRedis(keys), "p:session:", 200)
    assert not counted
    assert guess == pytest.approx(500, rel=0.1)


def test_what_info_says():
    info = "# Server\r\nredis_version:8.0.2\r\nused_memory:10\r\naof_enabled:1\r\nloading:0\r\nio_threads:4\r\n"
    told = {"redis_version": "8.0.2", "used_memory": 10, "aof_enabled": True, "loading": False}
    assert redis_status.parse_info(info) == told


@pytest.mark.parametrize("strategy", ["linear", "mitogen_linear"])
def test_a_cluster_that_is_away_as_a_whole_is_told_too(tmp_path, strategy):
    """ssh fails for each machine; the report is written all the same."""
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
