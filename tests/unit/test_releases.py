"""Which release is deployed, and which release a rollback activates."""

from typing import Any

import pytest
from lib.ansible_runs import load_module

releases = load_module("plugins/filter/releases.py")


def node(release: str = "", last_good: str | None = None, *rolled_back: str) -> dict[str, Any]:
    """Return the report of a node."""
    return {
        "current": {"release": release} if release else {},
        "last_good_release": last_good,
        "rolled_back": {name: {"marked_by": "ada@desk"} for name in rolled_back},
    }


UNREACHABLE = {"unreachable": True}


def test_the_built_release_is_deployed() -> None:
    assert releases.release_to_deploy([node("1-a"), node(), UNREACHABLE], "2-b") == {
        "release": "2-b",
        "rolled_back": {},
    }


def test_a_release_that_any_node_rolled_back_is_not_deployed_again() -> None:
    choice = releases.release_to_deploy([node(), node("1-a", None, "2-b")], "2-b")
    assert choice == {"release": "1-a", "rolled_back": {"marked_by": "ada@desk"}}


def test_without_another_release_the_built_one_is_chosen_although_it_was_rolled_back() -> None:
    assert releases.release_to_deploy([node("2-b", None, "2-b")], "2-b")["release"] == "2-b"


def plan(*targets: str, running: list[str], replaced: list[str]) -> dict[str, list[str]]:
    return {"targets": list(targets), "running": running, "replaced": replaced}


@pytest.mark.parametrize(
    ("reports", "named", "expected"),
    [
        ([node("2-b", "1-a"), node("2-b", "1-a")], "", plan("1-a", running=["2-b"], replaced=["2-b"])),
        ([node("2-b", "1-a"), node("2-b", "1-a")], "3-c", plan("3-c", running=["2-b"], replaced=["2-b"])),
        ([node("2-b"), node("2-b")], "", plan(running=["2-b"], replaced=[])),
        ([node("2-b", "1-a"), node("2-b", "0-z")], "", plan("1-a", "0-z", running=["2-b"], replaced=[])),
        ([node("1-a", "0-z"), node()], "1-a", plan("1-a", running=["1-a", ""], replaced=[])),
        ([node("2-b", "1-a"), UNREACHABLE], "", plan("1-a", running=["2-b"], replaced=["2-b"])),
    ],
    ids=[
        "the last good release",
        "a named release",
        "none",
        "nodes disagree",
        "a new node gets the release",
        "a lost node",
    ],
)
def test_the_release_of_a_rollback(reports: list[dict[str, Any]], named: str, expected: dict[str, list[str]]) -> None:
    assert releases.rollback_plan(reports, named) == expected


def test_an_interrupted_rollback_is_completed() -> None:
    """The node that is back already has another last good release; only the node that is behind counts."""
    reports = [node("1-a", "0-z", "2-b"), node("2-b", "1-a")]
    assert releases.rollback_plan(reports)["targets"] == ["1-a"]


def test_a_release_that_was_rolled_back_is_no_target() -> None:
    assert releases.rollback_plan([node("3-c", "2-b"), node("3-c", "1-a", "2-b")])["targets"] == ["1-a"]


def test_nodes_to_update_are_in_the_order_of_the_inventory() -> None:
    hostvars: dict[str, dict[str, str]] = {
        "app3": {"app_update": "rolling"},
        "app1": {"app_update": "rolling"},
        "app2": {"app_update": "none"},
        "app4": {},
    }
    names = ["app1", "app2", "app3", "app4", "app5"]
    assert releases.nodes_to_update(names, hostvars, "rolling") == ["app1", "app3"]
    assert releases.nodes_to_update(names, hostvars, "first") == []


def test_a_release_is_built_once_for_each_platform() -> None:
    def host(minor: int) -> dict[str, Any]:
        return {"ansible_facts": {"python": {"version": {"major": 3, "minor": minor}}, "architecture": "x86_64"}}

    hostvars = {"app1": host(13), "app2": host(11), "app3": host(13), "app4": {"ansible_facts": {}}}
    assert releases.platforms_of(list(hostvars), hostvars) == [
        {"python_version": "3.13", "architecture": "x86_64"},
        {"python_version": "3.11", "architecture": "x86_64"},
    ]
