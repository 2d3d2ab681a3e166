"""The version of the project is in VERSION, and the changelog describes it."""

import re

from lib.ansible_runs import ROOT


def test_the_version_is_semantic() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", (ROOT / "VERSION").read_text())


def test_the_changelog_describes_the_version_first() -> None:
    versions = re.findall(
        r"^## \[?(\d+\.\d+\.\d+)\]? - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert versions[0] == (ROOT / "VERSION").read_text().strip()
    assert versions == sorted(versions, key=lambda version: [int(part) for part in version.split(".")], reverse=True)
