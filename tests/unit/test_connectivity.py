"""The decision whether an operation may start."""

from typing import Any

import pytest
from lib.ansible_runs import load_module

connectivity = load_module("plugins/filter/connectivity.py")

HOSTS = ["lb1", "redis1", "app1", "app2"]
LOST = {"unreachable": True, "msg": "timed out"}


CLUSTER = {"id": "a1", "inventory": "production"}


def disks(*free: int, size: int = 100_000) -> dict[str, Any]:
    """The result of a host. free, size: in MB."""
    found = [{"path": f"/mount{each}", "free": each * 10**6, "size": size * 10**6} for each in free]
    return {"disks": found, "cluster": CLUSTER, "last_operation": {}}


def errors(
    skip_unreachable: bool = False, adopt: bool = False, cluster: dict[str, str] = CLUSTER, **results: Any
) -> list[str]:
    hostvars = {host: {"start_hosts": results.get(host, disks(900, 800))} for host in HOSTS}
    options = {"skip_unreachable": skip_unreachable, "adopt": adopt, "minimum_mb": 500}
    return list(connectivity.connectivity_errors(hostvars, HOSTS, ["app1", "app2"], cluster, **options))


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
    lost: dict[str, Any] = {host: LOST}
    (error,) = errors(skip_unreachable, **lost)
    assert error == f"{host} can't be reached, and no operation can go on without them."


def test_a_host_with_little_disk_space_stops_the_operation() -> None:
    (error,) = errors(app1=disks(900, 499))
    assert error.startswith("app1 has 499 MB on /mount499, and 500 MB are needed.")


def test_a_small_file_system_needs_less() -> None:
    assert errors(app1=disks(101, size=400)) == []
    (error,) = errors(app1=disks(99, size=400))
    assert error.startswith("app1 has 99 MB on /mount99")


def test_unknown_disk_space_of_a_host_stops_the_operation() -> None:
    (error,) = errors(app1={"msg": "No module named json"})
    assert error == "app1 can't report its free disk space: No module named json."


def test_a_new_host_belongs_to_no_cluster() -> None:
    assert errors(app2=disks(900) | {"cluster": {}}) == []


def test_hosts_of_a_copied_inventory() -> None:
    """The copy has the same secrets, but another name; the addresses were forgotten."""
    last = {"last_operation": {"time": "2026-12-01T10:00:00Z", "by": "ada@desk"}}
    found: dict[str, Any] = {host: disks(900) | last for host in HOSTS}
    (error,) = errors(cluster=CLUSTER | {"inventory": "staging"}, **found)
    assert error.startswith(
        "lb1, redis1, app1, app2 belong to the cluster of the inventory `production`, last changed by ada@desk at"
        " 2026-12-01T10:00:00Z, and this inventory is `staging`: was it copied? Correct the addresses."
    )
    assert error.endswith("the same command with -e adopt_hosts=true.")
    assert errors(adopt=True, cluster=CLUSTER | {"inventory": "staging"}, **found) == []


def test_hosts_that_a_clone_without_its_secrets_would_take_over() -> None:
    (error,) = errors(app2=disks(900) | {"cluster": CLUSTER | {"id": "b2"}})
    assert error.startswith("app2 belongs to the cluster of the inventory `production`. The secrets of this inventory")
    assert "get the directory `.secrets` from the operator" in error


def test_an_unreachable_host_has_an_unknown_cluster() -> None:
    (error,) = errors(app2=LOST)
    assert "can't be reached" in error
