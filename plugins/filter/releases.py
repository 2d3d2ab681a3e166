"""Decisions about releases, from the reports of the modules app_deployment and app_status on each node."""

from collections.abc import Iterable, Mapping
from typing import Any

Report = Mapping[str, Any]


def release_to_deploy(reports: Iterable[Report], built: str) -> dict[str, Any]:
    """Choose the release that all nodes get when no release is named.

    reports: of the nodes that were queried. built: id of the release that was built now. Returns `release`, and
    `rolled_back` with the record of the rollback of `built`, {} without any. A release that was rolled back isn't
    deployed again: the release that the nodes run stays.
    """
    found = list(reports)
    rolled_back = _rolled_back(found)
    if built not in rolled_back:
        return {"release": built, "rolled_back": {}}
    running = [release for release in running_releases(found) if release not in rolled_back]
    return {"release": running[0] if running else built, "rolled_back": rolled_back[built]}


def rollback_plan(reports: Iterable[Report], named: str = "") -> dict[str, list[str]]:
    """Choose the release of a rollback.

    named: the release that the operator names, if any. Returns `targets` (a single release if the choice is clear),
    `running` (the releases that the nodes run, "" for none) and `replaced` (those that the rollback replaces).
    """
    found = [report for report in reports if "current" in report]
    rolled_back = _rolled_back(found)
    # An interrupted rollback is completed: then only nodes count that still run a release that others have rolled back.
    behind = [report for report in found if report["current"].get("release") in rolled_back]
    candidates = [report.get("last_good_release") for report in behind or found]
    targets = [named] if named else _unique(each for each in candidates if each and each not in rolled_back)
    running = _unique(report["current"].get("release", "") for report in found)
    replaced = [each for each in running if each and each not in targets] if len(targets) == 1 else []
    return {"targets": targets, "running": running, "replaced": replaced}


def running_releases(reports: Iterable[Report]) -> list[str]:
    """Return the different releases that the nodes run; nodes without a deployment don't count."""
    return _unique(release for report in reports if (release := report.get("current", {}).get("release")))


def nodes_to_update(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], kind: str) -> list[str]:
    """Return the nodes with the fact `app_update` equal to `kind` ("first" or "rolling"), in the order of `names`."""
    return [name for name in names if name in hostvars and hostvars[name].get("app_update") == kind]


def platforms_of(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the different `python_version` ("3.13") and `architecture` of hosts, from their facts."""
    found = {}
    for name in names:
        facts = hostvars[name].get("ansible_facts", {})
        if "python" in facts:
            version = facts["python"]["version"]
            platform = (f"{version['major']}.{version['minor']}", str(facts["architecture"]))
            found[platform] = dict(zip(("python_version", "architecture"), platform, strict=True))
    return list(found.values())


def _rolled_back(reports: Iterable[Report]) -> dict[str, Any]:
    return {release: record for report in reports for release, record in report.get("rolled_back", {}).items()}


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "nodes_to_update": nodes_to_update,
            "platforms_of": platforms_of,
            "release_to_deploy": release_to_deploy,
            "rollback_plan": rollback_plan,
            "running_releases": running_releases,
        }
