"""Rules for the project as a whole."""

import re
import subprocess

import pytest
import yaml
from lib.ansible_runs import ROOT

# These two compute the other roles' inputs from the groups, or validate the groups.
MAY_KNOW_GROUPS = ("roles/topology/", "roles/preflight/")
# Extended regular expressions for git grep; they don't match themselves.
PRIVATE_KEY = "BEGIN [A-Z ]*PRIVATE KEY"
PACKAGE_INDEX = r"(pypi|pythonhosted|npmjs|rubygems|crates|golang)\.(org|com|io)|^ *--(extra-)?index-url"


def test_every_scenario_is_a_stage_of_the_tests() -> None:
    scenarios = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
    stages = re.findall(r"molecule SCENARIO=([\w-]+)", (ROOT / "scripts" / "test").read_text())
    assert scenarios
    assert sorted(stages) == scenarios


def test_the_main_file_of_a_role_fits_on_a_screen() -> None:
    files = sorted(ROOT.glob("roles/*/tasks/main.yml"))
    assert files
    assert {str(path): count for path in files if (count := len(path.read_text().splitlines())) > 60} == {}


def test_roles_do_not_know_the_groups() -> None:
    files = [path for path in ROOT.glob("roles/*/**/*") if path.is_file()]
    assert len(files) > 100
    knowing = [
        str(path.relative_to(ROOT))
        for path in files
        if re.search(r"\bgroups(\[|\.|\b *\|)|\bgroup_names\b", path.read_text(errors="replace"))
    ]
    assert [path for path in knowing if not path.startswith(MAY_KNOW_GROUPS)] == []


def test_nothing_refers_to_the_first_host_of_a_group() -> None:
    """Outside the topology, which chooses the primary and the host of the lock."""
    pattern = r"X *(\| *first|\[0\])"
    files = [*ROOT.glob("roles/**/*.yml"), *ROOT.glob("roles/**/*.j2"), *ROOT.glob("playbooks/**/*"), ROOT / "site.yml"]
    found = [str(path.relative_to(ROOT)) for path in files if path.is_file() and re.search(pattern, path.read_text())]
    assert [path for path in found if not path.startswith("roles/topology/")] == []


def test_every_line_of_the_deployment_has_a_tag() -> None:
    lines = yaml.safe_load((ROOT / "site.yml").read_text())
    assert len(lines) > 5
    assert [line["name"] for line in lines if not line.get("tags")] == []
    tags = [tag for line in lines for tag in line["tags"]]
    assert len(tags) == len(set(tags))


@pytest.mark.parametrize("pattern", [PRIVATE_KEY, PACKAGE_INDEX], ids=["private key", "package index"])
def test_the_repository_has_no(pattern: str) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout: clone the repository to search its files")
    done = subprocess.run(
        ["git", "grep", "--untracked", "-I", "-n", "-E", "-e", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr


def test_make_lists_every_target_with_a_description() -> None:
    listed = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = {line.split()[1] for line in listed.stdout.splitlines()}
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    assert names == set(phony[1].split()) - {"test-tools"}
    assert all(len(line.split()) > 3 for line in listed.stdout.splitlines())


def test_the_tests_that_the_security_page_names_exist() -> None:
    """Each test file it names, and each test in it."""
    page = next(ROOT.glob("docs/**/security.md"))
    named = set(re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text()))
    assert len(named) > 10
    missing = [
        (path, test)
        for path, test in named
        if not (ROOT / path).exists() or f"def {test + '(' if test else 'test_'}" not in (ROOT / path).read_text()
    ]
    assert missing == []
