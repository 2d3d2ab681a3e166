"""The decision whether an operation may start."""

from typing import Any

import pytest
from lib.ansible_runs import load_module

connectivity = load_module("plugins/filter/connectivity.py")

HOSTS = ["lb1", "redis1", "app1", "app2"]
LOST = {"unreachable": True, "msg": "timed out"}


def disks(*free: int) -> dict[str, Any]:
    return {"stdout_lines": ["Avail Mounted on", *(f"{each} /mount{each}" for each in free)]}


def errors(skip_unreachable: bool = False, **results: dict[str, Any]) -> list[str]:
    hostvars = {host: {"start_disks": results.get(host, disks(900, 800))} for host in HOSTS}
    return list(connectivity.connectivity_errors(hostvars, HOSTS, ["app1", "app2"], skip_unreachable, 500))


def test_reachable_hosts_with_free_disk_space_have_no_error() -> None:
    assert errors() == []


def test_an_unreachable_app_node_stops_the_operation_unless_it_is_skipped() -> None:
    (error,) = errors(app2=LOST)
    assert error.startswith("app2 can't be reached.")
    assert "-e skip_unreachable=true" in error
    assert errors(skip_unreachable=True, app2=LOST) == []


@pytest.mark.parametrize("host", ["lb1", "redis1"])
@pytest.mark.parametrize("skip_unreachable", [False, True])
def test_an_unreachable_balancer_or_redis_always_stops_the_operation(host: str, skip_unreachable: bool) -> None:
    (error,) = errors(skip_unreachable, **{host: LOST})
    assert error == f"{host} can't be reached, and no operation can go on without them."


def test_a_host_with_little_disk_space_stops_the_operation() -> None:
    (error,) = errors(app1=disks(900, 499))
    assert error.startswith("app1 has 499 MB on /mount499, and 500 MB are needed.")


def test_unknown_disk_space_of_a_host_stops_the_operation() -> None:
    (error,) = errors(app1={"stdout_lines": [], "stderr": "df: broken"})
    assert error == "app1 can't report its free disk space: df: broken."
