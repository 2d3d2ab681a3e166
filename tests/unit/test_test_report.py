"""The report of scripts/test: durations of molecule's actions, and the slowest tests."""

from pathlib import Path

from lib.ansible_runs import load_module

report = load_module("scripts/test_report.py")

OUTPUT = """\
INFO     default ➜ discovery: scenario test matrix: create, converge
\x1b[36mINFO    \x1b[0m \x1b[32mdefault\x1b[0m ➜ \x1b[33mcreate\x1b[0m: \x1b[36mExecuting\x1b[0m
PLAY [Local hosts: create the containers]
INFO     default ➜ create: Executed: Successful
INFO     default ➜ converge: Executing
INFO     default ➜ converge: Executed: Failed
"""
JUNIT = (
    '<testsuites><testsuite><testcase classname="tests.unit.{0}" name="test_it" time="{1}" /></testsuite></testsuites>'
)


def test_actions_are_timed_until_the_next_action() -> None:
    clock = iter([10.0, 13.0, 13.0, 20.0])
    actions = report.timed_actions(OUTPUT.splitlines(), lambda: next(clock))
    assert list(actions) == [("create", 3.0), ("converge", 7.0)]


def test_output_without_actions_has_none() -> None:
    assert list(report.timed_actions(["3 passed in 2.00s"])) == []


def test_the_slowest_tests_of_all_stages_are_listed(tmp_path: Path) -> None:
    for stage, name, seconds in [("unit", "test_a", 0.1), ("default", "test_b", 12.3), ("lint", "test_c", 1)]:
        (tmp_path / f"{stage}.xml").write_text(JUNIT.format(name, seconds))
    assert report.slowest(tmp_path, count=2) == [
        "   12.3 s  default      tests/unit/test_b.py::test_it",
        "    1.0 s  lint         tests/unit/test_c.py::test_it",
    ]
