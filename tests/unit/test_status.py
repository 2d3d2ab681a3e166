"""The status report: problems, warnings, the table and the JSON."""

import json
import subprocess
import sys
from typing import Any

import pytest
from lib.ansible_runs import ROOT, load_module

status = load_module("plugins/filter/status.py")

GROUPS = {"nginx": ["lb1"], "redis": ["redis1"], "app": ["app1", "app2"]}
ADDRESSES = {"lb1": "192.0.2.10", "redis1": "192.0.2.20", "app1": "192.0.2.31", "app2": "192.0.2.32"}
DRAINED = {"kind": "drain", "by": "ada@desk", "since": "2026-11-22T10:00:00Z", "reason": "new disk"}
GIGABYTE = 10**9
UNREACHABLE = {"common_status": {"unreachable": True, "msg": "timed out"}}

Facts = dict[str, Any]


def certificates(days: float | None, ca_days: float = 3650) -> Facts:
    until = "2027-01-29T12:00:00+00:00" if days is not None else None
    return {
        "status": {"certificate_days": days, "certificate_until": until, "ca_days": ca_days, "ca_until": until},
    }


def common(free: float = 50, size: float = 100) -> Facts:
    disk: dict[str, Any] = {"path": "/", "free": round(free * GIGABYTE), "size": round(size * GIGABYTE)}
    disk |= {"free_inodes": 900, "inodes": 1000}
    return {"disks": [disk]}


def app_node() -> Facts:
    app = {
        "state": "ready",
        "reason": "",
        "release": "1.0-abc",
        "serving_release": "1.0-abc",
        "deployment": "r1",
        "since": "2026-11-22T09:00:00.000+00:00",
        "pending": [],
    }
    skipped = {"skipped": True, "changed": False}
    return {"common_status": common(), "app_status": {"status": app}, "redis_status": skipped}


@pytest.fixture
def facts() -> Facts:
    """The facts of a healthy cluster."""
    redis = {
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
    nginx: dict[str, Any] = {
        "state": "running",
        "reason": "",
        "nodes": ["app1", "app2"],
        "drained": {},
        "maintenance": None,
        "pending": [],
    }
    return {
        "lb1": {"common_status": common(), "nginx_status": nginx, "deploy_lock_status": {"held_by": None}},
        "redis1": {
            "common_status": common(),
            "redis_status": {"status": redis},
            "certificates_status": certificates(60),
        },
        "app1": app_node(),
        "app2": app_node(),
    }


def report(facts: Facts, queried: tuple[str, ...] = tuple(ADDRESSES), **options: Any) -> Facts:
    found: Facts = status.status_report(facts, GROUPS, ADDRESSES, queried, **options)
    return found


def problems(facts: Facts) -> Any:
    return report(facts)["problems"]


def test_a_healthy_cluster(facts: Facts) -> None:
    found = report(facts, version="1.2.3")
    assert (found["healthy"], found["problems"], found["warnings"]) == (True, [], [])
    table = status.status_table(found)
    assert table.startswith("Anynode 1.2.3\n")
    row = next(line.split() for line in table.splitlines() if line.startswith("app1"))
    assert row[:6] == ["app1", "app", "192.0.2.31", "ready", "active", "1.0-abc"]
    assert "sessions: 12" in table
    assert table.endswith("No problems.")


@pytest.mark.parametrize(("days", "text"), [(13, "expires in 13 days"), (-2, "expired 2 days ago")])
def test_a_certificate_that_expires_soon_is_a_warning(facts: Facts, days: float, text: str) -> None:
    facts["redis1"]["certificates_status"] = certificates(days)
    (warning,) = report(facts)["warnings"]
    assert warning.startswith(f"redis1: its certificate {text}; ")
    assert f"warning: {warning}" in status.status_table(report(facts))
    assert report(facts, warn_days=-9)["warnings"] == []


def test_the_table_has_the_expiry_of_certificates(facts: Facts) -> None:
    assert "The certificate of redis1 is valid until 2027-01-29 12:00:00Z" in status.status_table(report(facts))


def test_a_ca_that_expires_soon_is_a_warning(facts: Facts) -> None:
    facts["redis1"]["certificates_status"] = certificates(100, ca_days=9)
    (warning,) = report(facts)["warnings"]
    assert warning.startswith("redis1: the inventory's CA expires in 9 days; see docs/")


def test_a_certificate_that_can_not_be_read_is_a_warning(facts: Facts) -> None:
    facts["redis1"]["certificates_status"] = certificates(None)
    (warning,) = report(facts)["warnings"]
    assert warning.startswith("redis1: its certificate can't be read")
    assert "The certificate of redis1 is valid" not in status.status_table(report(facts))


def test_an_unreachable_host_is_a_problem(facts: Facts) -> None:
    facts["app2"] = UNREACHABLE
    assert problems(facts) == ["app2 is unreachable: timed out"]


def test_a_service_that_could_not_be_queried_is_a_problem(facts: Facts) -> None:
    del facts["app2"]["app_status"]
    assert problems(facts) == ["app2 is unknown: its status could not be queried"]
    facts["app2"]["app_status"] = {"failed": True, "msg": "no such file"}
    assert problems(facts) == ["app2 is unknown: no such file"]
    del facts["lb1"]["nginx_status"]["state"]
    assert problems(facts)[0] == "lb1 is unknown: its status could not be queried"


def test_a_node_that_an_operator_drained_may_have_any_state(facts: Facts) -> None:
    facts["lb1"]["nginx_status"]["drained"] = {"app2": DRAINED}
    facts["app2"] = UNREACHABLE
    found = report(facts)
    assert found["healthy"]
    assert found["nodes"][3]["balancers"] == {"lb1": {"active": False, "listed": True} | DRAINED}
    text = "app2 is drained on lb1 since 2026-11-22 10:00:00Z, by ada@desk: new disk"
    assert text in status.status_table(found)


def test_a_node_that_an_operation_drained_is_a_problem_once_the_operation_has_ended(facts: Facts) -> None:
    reason = {"kind": "deployment", "deployment": "r9", "reason": "rolling update"}
    facts["lb1"]["nginx_status"]["drained"] = {"app2": reason}
    assert problems(facts) == ["app2 is drained on lb1: rolling update"]
    facts["lb1"]["deploy_lock_status"]["held_by"] = {"id": "r9", "by": "eve@desk", "what": "site.yml"}
    assert problems(facts) == []
    assert report(facts)["warnings"] == [
        "app2: is drained on lb1 by the operation that holds the lock; if it has ended, run it again"
    ]


def test_a_balancer_in_maintenance_mode_is_no_problem(facts: Facts) -> None:
    facts["lb1"]["nginx_status"]["maintenance"] = DRAINED
    found = report(facts)
    assert found["healthy"]
    text = "lb1 is in maintenance mode since 2026-11-22 10:00:00Z, by ada@desk: new disk"
    assert text in status.status_table(found)


def test_a_node_that_is_not_ready_has_a_reason(facts: Facts) -> None:
    facts["app1"]["app_status"]["status"] |= {"state": "not ready", "reason": "session store unavailable"}
    assert problems(facts) == ["app1 is not ready: session store unavailable"]


def test_a_node_that_serves_another_release_than_its_deployment_is_a_problem(facts: Facts) -> None:
    facts["app1"]["app_status"]["status"]["serving_release"] = "0.9-old"
    assert problems(facts) == ["app1 serves release 0.9-old, but its deployment has 1.0-abc"]


def test_different_releases_are_a_warning(facts: Facts) -> None:
    facts["app1"]["app_status"]["status"] |= {"release": "0.9-old", "serving_release": "0.9-old"}
    assert report(facts)["warnings"] == ["app nodes run different releases: app1 0.9-old, app2 1.0-abc"]


def test_a_node_that_the_balancer_does_not_list_is_a_problem(facts: Facts) -> None:
    facts["lb1"]["nginx_status"]["nodes"] = ["app1"]
    assert problems(facts) == ["app2 is not listed on lb1"]


def test_a_stopped_balancer_is_a_problem(facts: Facts) -> None:
    facts["lb1"]["nginx_status"] |= {"state": "stopped", "reason": "nginx.service is failed"}
    assert problems(facts) == ["lb1 is stopped: nginx.service is failed"]


def test_a_redis_that_can_not_write_is_a_problem(facts: Facts) -> None:
    facts["redis1"]["redis_status"]["status"]["aof_last_write_status"] = "err"
    assert problems(facts) == ["redis1 has aof_last_write_status err"]


@pytest.mark.parametrize(("free", "size", "warns"), [(9, 100, True), (11, 100, False), (0.9, 2, True), (1.1, 2, False)])
def test_a_disk_that_is_nearly_full_is_a_warning(facts: Facts, free: float, size: float, warns: bool) -> None:
    facts["app1"]["common_status"] = common(free, size)
    found = report(facts)
    assert bool(found["warnings"]) is warns
    assert found["healthy"]


def test_a_small_file_system_may_be_half_full(facts: Facts) -> None:
    facts["app1"]["common_status"] = common(0.3, 0.5)
    assert report(facts)["warnings"] == []


def test_a_full_file_system_is_a_problem(facts: Facts) -> None:
    """Also one of several, and one that is full of files: nginx can't store a request there, nor Redis a login."""
    disks = common(50, 100)["disks"]
    facts["lb1"]["common_status"] = {"disks": disks + [disks[0] | {"path": "/var/lib/nginx", "free": 4_000_000}]}
    facts["redis1"]["common_status"] = {"disks": disks + [disks[0] | {"path": "/var/log", "free_inodes": 7}]}
    assert problems(facts) == [
        "lb1 has a full file system: 4 MB are free on /var/lib/nginx; free some space",
        "redis1 has a full file system: 7 inodes are free on /var/log; remove some files",
    ]


def test_files_that_a_service_has_not_read_are_listed(facts: Facts) -> None:
    facts["lb1"]["nginx_status"]["pending"] = ["/etc/nginx/nginx.conf changed after nginx.service had read it"]
    text = "lb1 has pending changes: /etc/nginx/nginx.conf changed after nginx.service had read it"
    assert text in status.status_table(report(facts))


def test_a_redis_that_is_nearly_full_is_a_warning(facts: Facts) -> None:
    facts["redis1"]["redis_status"]["status"]["used_memory"] = 240_000_000
    assert "240 MB of 256 MB" in report(facts)["warnings"][0]


def test_only_queried_hosts_are_listed(facts: Facts) -> None:
    found = report({"app2": facts["app2"]}, ("app2",))
    assert [node["name"] for node in found["nodes"]] == ["app2"]
    assert found["healthy"]


def test_the_command_prints_json_alone_and_its_exit_status_is_the_verdict(facts: Facts) -> None:
    facts["lb1"]["nginx_status"] |= {"state": "stopped", "reason": "nginx.service is failed"}
    for given, expected in ((report(facts), 1), (report(facts) | {"healthy": True}, 0)):
        done = subprocess.run(
            [sys.executable, ROOT / "plugins/filter/status.py", "--json"],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
        assert json.loads(done.stdout) == given
        assert done.returncode == expected
