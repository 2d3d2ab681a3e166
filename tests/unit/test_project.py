"""Promises about the project as a whole that a reader of a single file would not notice to be broken."""

import re
import subprocess

import pytest
from lib.ansible_runs import ROOT, ansible_playbook

PLAYBOOKS = ["site.yml", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("playbooks/*.yml"))]
# Elsewhere roles take what they need as variables. These two know the groups; the third one is told by its name.
MAY_KNOW_GROUPS = ["roles/topology/", "roles/preflight/", "roles/local_nodes/tasks/prune.yml"]
# Extended regular expressions for git grep; none finds itself.
PRIVATE_KEY = "BEGIN [A-Z ]*PRIVATE KEY"
PACKAGE_INDEX = r"(pypi|pythonhosted|npmjs|rubygems|crates|golang)\.(org|com|io)|^ *--(extra-)?index-url"


def test_all_scenarios_run_and_no_other():
    """A scenario that nothing runs, or a list that names one that is not there, would never turn red."""
    scenarios = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
    listed = re.findall(r"molecule SCENARIO=([\w-]+)", (ROOT / "scripts" / "test").read_text())
    assert scenarios
    assert sorted(listed) == scenarios


@pytest.mark.parametrize("inventory", ["inventory/local", "inventory/production"])
def test_playbooks_have_no_syntax_error(inventory):
    done = ansible_playbook("--syntax-check", "-i", inventory, *PLAYBOOKS)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("playbook: ") == len(PLAYBOOKS), done.stdout


def test_a_roles_main_file_fits_on_a_screen():
    files = sorted(ROOT.glob("roles/*/tasks/main.yml"))
    assert files
    long = {str(path): count for path in files if (count := len(path.read_text().splitlines())) > 60}
    assert long == {}


def test_roles_do_not_know_the_groups():
    files = [path for folder in ("tasks", "handlers", "templates") for path in ROOT.glob(f"roles/*/{folder}/*")]
    assert files
    knowing = [str(path.relative_to(ROOT)) for path in files if re.search(r"\bgroups\W", path.read_text())]
    assert [path for path in knowing if not path.startswith(tuple(MAY_KNOW_GROUPS))] == []


@pytest.mark.parametrize("pattern", [PRIVATE_KEY, PACKAGE_INDEX], ids=["private key", "package index"])
def test_the_repository_holds_no(pattern):
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout: clone the repository to have its files searched")
    done = subprocess.run(
        ["git", "grep", "--untracked", "-I", "-n", "-E", "-e", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr


def test_tasks_that_tests_wait_for_are_there():
    """A test that kills a run at a task that was renamed would only notice on machines, after an hour."""
    wanted = set()
    for path in ROOT.glob("tests/**/test_*.py"):
        wanted |= set(re.findall(r"(?:TASK|HANDLER) \[(\w+) : ([^\]\"']+)", path.read_text()))
    assert len(wanted) > 5
    there = {role: "\n".join(path.read_text() for path in ROOT.glob(f"roles/{role}/*/*.yml")) for role, _ in wanted}
    assert [(role, name) for role, name in wanted if f"- name: {name}" not in there[role]] == []


def test_make_alone_lists_every_target_with_a_line():
    """What is listed exists, and what exists is listed, but for what only other targets need."""
    listed = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = {line.split()[1] for line in listed.stdout.splitlines()}
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1).split()
    assert names == set(phony) - {"test-tools"}
    assert all(len(line.split()) > 3 for line in listed.stdout.splitlines())


def test_what_docs_security_calls_a_proof_is_there():
    """Each file that it names, and each test in it."""
    named = set(re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", (ROOT / "docs/reference/defenses.md").read_text()))
    assert len(named) > 10
    assert [
        each for each in named if f"def {each[1] + '(' if each[1] else 'test_'}" not in (ROOT / each[0]).read_text()
    ] == []
