"""The counts and values that redis_status reports."""

from collections.abc import Sequence
from typing import Any

import pytest
from lib.ansible_runs import load_module

redis_status = load_module("plugins/modules/redis_status.py")


class FakeRedis:
    """Answers DBSIZE and SCAN from a list, ten keys at a time; the first batch comes twice."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = list(keys)

    def query(self, command: str, cursor: Any = None, *_count: Any) -> Any:
        if command == "DBSIZE":
            return len(self.keys)
        start = int(cursor)
        following = 0 if start + 10 >= len(self.keys) else start + 10
        return str(following), self.keys[start : start + 10] + (self.keys[:10] if start == 10 else [])


def test_sessions_are_counted_or_estimated_from_a_sample() -> None:
    keys = [f"p:session:{n}" if n % 2 else f"p:user:{n}" for n in range(1000)]
    assert redis_status.count(FakeRedis(keys), "p:session:", 5000) == (500, True)
    estimate, counted = redis_status.count(FakeRedis(keys), "p:session:", 200)
    assert not counted
    assert estimate == pytest.approx(500, rel=0.1)


def test_the_values_of_info_have_types() -> None:
    info = "# Server\r\nredis_version:8.0.2\r\nused_memory:10\r\naof_enabled:1\r\nloading:0\r\nio_threads:4\r\n"
    values = {"redis_version": "8.0.2", "used_memory": 10, "aof_enabled": True, "loading": False}
    assert redis_status.parse_info(info) == values
