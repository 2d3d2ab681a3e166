"""docs/reference/asvs.md answers every requirement, names only existing tests, and its figures match the code."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from anynode.config import Config
from flask_shared_session import errors, redis_client, store
from flask_shared_session.breaker import Breaker
from lib.demo_app import environ

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "reference" / "asvs.md").read_text()
# Number and level of each requirement of ASVS 5.0.0 that the page must answer.
LEVELS = {
    "7.1.1": 2, "7.1.2": 2, "7.1.3": 2,
    "7.2.1": 1, "7.2.2": 1, "7.2.3": 1, "7.2.4": 1,
    "7.3.1": 2, "7.3.2": 2,
    "7.4.1": 1, "7.4.2": 1, "7.4.3": 2, "7.4.4": 2, "7.4.5": 2,
    "7.5.1": 2, "7.5.2": 2, "7.5.3": 3,
    "7.6.1": 2, "7.6.2": 2,
    "3.3.1": 1, "3.3.2": 2, "3.3.3": 2, "3.3.4": 2, "3.3.5": 3,
    "1.5.2": 2, "6.3.1": 1, "13.1.3": 3, "14.2.1": 1, "14.3.2": 2, "16.2.5": 2, "16.5.2": 2, "16.5.3": 2,
}  # fmt: skip
ROWS = re.findall(r"^\| (\d+\.\d+\.\d+) \| (\d) \| (.*?) \| (.*?) \|$", TEXT, re.MULTILINE)
TESTS = sorted(set(re.findall(r"(tests/[\w/]+\.py)::(\w+)", TEXT)))


def test_each_requirement_has_a_row_with_its_level() -> None:
    assert sorted((number, int(level)) for number, level, *_ in ROWS) == sorted(LEVELS.items())


@pytest.mark.parametrize(("number", "test"), [(row[0], row[3]) for row in ROWS])
def test_a_requirement_is_proved_or_not_applicable(number: str, test: str) -> None:
    assert "::test_" in test or test.startswith("not applicable: ")


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    assert name in [each.name for each in tree.body if isinstance(each, ast.FunctionDef)]
    assert name.startswith("test_")


def test_the_decisions_match_the_code() -> None:
    decisions = dict(re.findall(r"^\| ([a-zA-Z' -]+) \| (.+) \|$", TEXT, re.MULTILINE))
    config = Config.from_environ(environ())
    breaker = inspect.signature(Breaker).parameters
    assert f"{config.session_idle_seconds // 60} minutes" in decisions["idle time"]
    assert f"{config.session_lifetime_seconds // 3600} hours" in decisions["lifetime"]
    assert decisions["sessions of one user at once"].startswith(f"{config.sessions_per_user} ")
    assert f"of {store.MAX_CONNECTIONS} " in decisions["waiting for Redis"]
    assert f" {redis_client.TIMEOUT_SECONDS} s " in decisions["waiting for Redis"]
    assert f"`Retry-After: {errors.RETRY_AFTER_SECONDS}`" in decisions["Redis doesn't answer"]
    assert f"After {breaker['failures'].default} failures" in decisions["Redis doesn't answer"]
    assert f"once in {breaker['pause'].default} s" in decisions["Redis doesn't answer"]
