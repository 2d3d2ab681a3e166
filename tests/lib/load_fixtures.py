"""Fixtures: load on the cluster while a test does something to it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from lib.cluster import Cluster
from lib.load.report import row, summary

from .load_process import Running, assert_no_errors, load

# `make load-test` names a file for the figures. Then the load has its full size, and waits are asserted.
# Otherwise only counts are asserted: on a busy computer, pauses have other causes than the deployment.
FIGURES = os.environ.get("ANYNODE_LOAD_TEST")
SIZE: dict[str, Any] = {"requests": 20_000, "rate": 250} if FIGURES else {"requests": 800, "rate": 60, "users": 10}


class Load:
    """Load while the block runs; the block gets an object that has its result in `.result` afterwards."""

    def __init__(self, cluster: Cluster, event: str, worst_wait: float | None = None, **options: Any) -> None:
        """event: name of the row in the figures. worst_wait: seconds; if given, no client may notice anything."""
        self.event, self.worst_wait = event, worst_wait
        self.load = load(cluster.url(cluster.balancer), cluster.account, ca=cluster.ca, **SIZE | options)

    def __enter__(self) -> Running:
        self.running = self.load.__enter__()
        return self.running

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.load.__exit__(kind, error, trace)
        result = self.running.result
        if FIGURES and result:
            with Path(FIGURES).open("a") as figures:
                figures.write(row(self.event, result) + "\n")
        if error is None and self.worst_wait is not None:
            assert result
            assert_no_errors(result, self.worst_wait if FIGURES else math.inf)


def assert_served_within(result: dict[str, Any], seconds: float) -> None:
    """Assert, in a load test only, that no served client waited longer."""
    assert not FIGURES or result["wait"]["worst"]["seconds"] <= seconds, summary(result)


def assert_kept(result: dict[str, Any], event: float) -> None:
    """Assert that no session was lost, no write doubled, and none lost that was acknowledged 1 s before the event.

    event: epoch seconds.
    """
    assert not (result["sessions_lost"] or result["doubled_writes"]), summary(result)
    assert all(each["acknowledged"] > event - 1 for each in result["lost_writes_found"]), summary(result)


@pytest.fixture
def under_load(cluster: Cluster) -> Callable[..., Load]:
    """Load of which requests may fail: with under_load("an event") as run: ...; then read run.result."""
    return lambda event, **options: Load(cluster, event, **options)


@pytest.fixture
def unnoticed(under_load: Callable[..., Load]) -> Callable[..., Load]:
    """Load of which no request may fail, no session or write be lost, no wait be long."""
    return lambda event, worst_wait=1, **options: under_load(event, worst_wait=worst_wait, **options)
