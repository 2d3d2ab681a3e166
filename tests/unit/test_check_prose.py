"""scripts/check_prose.py finds refused words in code and prose, and leaves legitimate uses alone."""

import subprocess
from pathlib import Path

import pytest

from scripts.check_prose import Count, Glossary, Limit, check, check_tree, is_task_file, repository_files, totals

GLOSSARY = Glossary.read()


def found(path: str, text: str) -> list[tuple[int, str]]:
    """Return line and words of each problem in a file with this text."""
    problems, _count = check(path, text, GLOSSARY)
    return [(problem.line, problem.found) for problem in problems]


@pytest.mark.parametrize(
    ("path", "line", "words"),
    [
        ("docs/a.md", "Each visitor gets a session.", "visitor"),
        ("docs/a.md", "Take the node out first.", "Take the node out"),
        ("docs/a.md", "The node is out.", "is out"),
        ("docs/a.md", "Nodes are updated a few at a time.", "a few at a time"),
        ("docs/a.md", "Roll the nodes.", "Roll"),
        ("docs/a.md", "It passes on the second try.", "second try"),
        ("docs/a.md", "The deployment is over.", "is over"),
        ("app/src/a.py", "visitor_count = 1", "visitor"),
        ("app/src/a.py", "class VisitorPool: ...", "Visitor"),
        ("app/src/a.py", "def query(why): ...", "why"),
        ("app/src/a.py", "text = 'Redis said no'", "said"),
        ("plugins/modules/a.py", "class Refused(Exception): ...", "Refused"),
        ("plugins/modules/firewall.py", "UNDO = 'timer'", "UNDO"),
        ("roles/app/defaults/main.yml", "app_machines: 3", "machines"),
        ("roles/app/templates/a.conf.j2", "{# Nodes are asked in turn #}", "asked"),
        ("roles/redis/defaults/main.yml", "# The app's account", "account"),
        ("roles/nginx/templates/a.conf.j2", "add_header X-Run 1;", "X-Run"),
        ("scripts/a", "say hello", "say"),
        ("app/src/a.lua", "-- it is made anew", "anew"),
    ],
)
def test_words_of_the_old_vocabulary_are_refused(path: str, line: str, words: str) -> None:
    assert found(path, f"\n\n{line}\n") == [(3, words)]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("docs/a.md", "Take a node out of service: each node that tries to start."),
        ("tests/unit/a.py", "refused = requests = None"),
        ("docs/a.md", "Run `site.yml` on a virtual machine with 2 cores."),
        ("docs/a.md", "The request timed out, which is out of scope. Roll the release back."),
        ("docs/a.md", "It runs over HTTPS, and is over the limit."),
        ("docs/a.md", "The Unix account `anynode` and a reach of 3 hosts"),
        ("bench/a.py", "# This machine has 2 cores."),
        ("app/src/a.py", "position = handle.tell()"),
        ("app/src/a.py", "try:\n    pass\nexcept OSError:\n    redis.execute_command('ASKING', 'WATCH')"),
        ("app/src/a.py", "timestamp = bearer = browser_cookies = basking = None"),
        ("app/src/a.py", "def _forget(session): ..."),
        ("roles/common/templates/a.j2", "Wants=network-online.target /etc/machine-id"),
        (
            "roles/app/tasks/a.yml",
            "# Rolls the deployment back\n- name: Roll back to the release before\n  a: {b: rolled_back}",
        ),
        ("playbooks/a.yml", "# ansible-playbook --ask-become-pass"),
    ],
)
def test_legitimate_uses_are_left_alone(path: str, line: str) -> None:
    assert found(path, line + "\n") == []


def test_words_are_found_across_the_line_break_of_a_comment() -> None:
    assert found("app/src/a.py", "# The operator takes the node\n# out of the balancer.\n") == [
        (1, "takes the node out")
    ]


def test_the_name_of_a_file_is_checked() -> None:
    problems, _count = check("tests/lib/visitor.py", "", GLOSSARY)
    assert [str(problem) for problem in problems] == [
        'tests/lib/visitor.py (its name): "visitor": write client (network) or user (logged in)'
    ]


def test_a_problem_names_file_line_word_and_replacement() -> None:
    problems, _count = check("docs/a.md", "# Title\n\nMended.\n", GLOSSARY)
    assert [str(problem) for problem in problems] == ['docs/a.md:3: "Mended": write fix, repair']


TASKS = """---
- name: {play}
  hosts: app
  tasks:
    - name: {task}
      ansible.builtin.command: "true"
    - name: Check the node
      block:
        - name: Query the node
          ansible.builtin.command: "true"
      rescue:
        - name: {rescue}
          ansible.builtin.command: "true"
"""
GOOD = {"play": "'App nodes: rolling update'", "task": "Drain the node", "rescue": "Restore the release"}


@pytest.mark.parametrize(
    ("changed", "line", "words"),
    [
        ({}, None, None),
        ({"play": "Validate the inventory"}, None, None),
        ({"task": "Look at the node"}, 5, "Look"),
        ({"task": "'{{ title }}'"}, 5, "{{"),
        ({"rescue": "Let it run"}, 12, "Let"),
        ({"play": "The others, in batches"}, 2, "The others, in batches"),
        ({"play": "'App nodes: Rolling update'"}, 2, "App nodes: Rolling update"),
    ],
)
def test_names_of_tasks_and_plays_follow_the_rules(
    changed: dict[str, str], line: int | None, words: str | None
) -> None:
    expected = [(line, words)] if line else []
    assert found("playbooks/a.yml", TASKS.format(**GOOD | changed)) == expected


def test_items_that_only_have_a_name_are_no_tasks() -> None:
    assert found("roles/app/tasks/main.yml", "- name: app1\n") == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("site.yml", True),
        ("playbooks/internal/start.yml", True),
        ("roles/app/handlers/main.yml", True),
        ("molecule/default/converge.yml", True),
        ("molecule/default/molecule.yml", False),
        ("roles/app/defaults/main.yml", False),
        ("playbooks/group_vars/all.yml", False),
    ],
)
def test_files_with_tasks_are_known_by_their_paths(path: str, expected: bool) -> None:
    assert is_task_file(path) is expected


def test_limited_words_are_counted_in_comments_and_docstrings_of_python() -> None:
    text = '"""Whoever reads one."""\nname = "what and who"  # what one does\n'
    _problems, count = check("bench/a.py", text, GLOSSARY)
    assert (count.words, dict(count.limited)) == (6, {"who": 1, "what": 1, "one": 2})


def test_limited_words_are_counted_in_docs_without_code_blocks() -> None:
    _problems, count = check("docs/a.md", "What is it?\n\n```\nwhat who one\n```\n", GLOSSARY)
    assert (count.words, dict(count.limited)) == (3, {"who": 0, "what": 1, "one": 0})


def test_limited_words_are_counted_in_names_of_tasks_and_descriptions() -> None:
    text = "- name: Check what is there\n  when: what  # one\n  description: ones\n"
    _problems, count = check("roles/app/meta/a.yml", text, GLOSSARY)
    assert (count.words, dict(count.limited)) == (6, {"who": 0, "what": 1, "one": 2})


def test_rates_are_computed_per_thousand_words_of_docs_and_of_comments() -> None:
    counts = {"a.md": Count(1500), "b.md": Count(500), "c.py": Count(10)}
    counts["a.md"].limited["who"] = 3
    sums = totals(counts)
    assert (sums["docs"].per_thousand("who"), sums["comments"].words) == (1.5, 10)


def test_the_limits_are_those_of_the_project() -> None:
    limits = {name: limit.most for name, limit in GLOSSARY.limits.items()}
    assert limits == {"who": 0.5, "what": 2.0, "one": 2.5}
    assert GLOSSARY.limits["one"] == Limit("ones?", 2.5)


def test_a_tree_is_checked_without_files_that_git_ignores(tmp_path: Path) -> None:
    for name in ("good.py", "bad.py", "ignored.py", "binary"):
        (tmp_path / name).write_text("visitors = 1\n" if name != "good.py" else "clients = 1\n")
    (tmp_path / "binary").write_bytes(b"\xff visitors")
    (tmp_path / "CHANGELOG.md").write_text("visitors\n")
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    assert repository_files(tmp_path) == [".gitignore", "CHANGELOG.md", "bad.py", "binary", "good.py"]
    problems, counts = check_tree(tmp_path, GLOSSARY)
    assert [problem.path for problem in problems] == ["bad.py"]
    assert sorted(counts) == [".gitignore", "bad.py", "good.py"]
