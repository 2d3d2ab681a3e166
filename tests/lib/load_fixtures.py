"""Fixtures: visitors who are there while a test does something to the cluster."""

import math
import os
from pathlib import Path

import pytest

from lib.load.report import row, summary

from .load_process import assert_no_errors, load

# `make load-test` names a file for the figures: then the load has its full size, and waits are held against their limits.
# Elsewhere only counts are asserted, since a busy computer's pauses say nothing about a deploy.
FIGURES = os.environ.get("ANYNODE_LOAD_TEST")
SIZE = {"requests": 20_000, "rate": 250} if FIGURES else {"requests": 2000, "rate": 150}


class Visitors:
    """Load while the block runs; leaves its result in `.result` of what the block gets."""

    def __init__(self, cluster, event, worst_wait=None, **options):
        """event: the name of the row among the drill's figures. worst_wait: in seconds; then nobody may notice."""
        self.event, self.worst_wait = event, worst_wait
        self.load = load(cluster.url(cluster.balancer), cluster.account, ca=cluster.ca, **SIZE | options)

    def __enter__(self):
        self.running = self.load.__enter__()
        return self.running

    def __exit__(self, *error):
        self.load.__exit__(*error)
        if FIGURES and self.running.result:
            with Path(FIGURES).open("a") as figures:
                figures.write(row(self.event, self.running.result) + "\n")
        if error[0] is None and self.worst_wait is not None:
            assert_no_errors(self.running.result, self.worst_wait if FIGURES else math.inf)


def assert_served_within(result, seconds):
    """Who was served in the end did not wait longer. Only the drill insists."""
    assert not FIGURES or result["wait"]["worst"]["seconds"] <= seconds, summary(result)


def assert_kept(result, event):
    """No session was lost, nor a write acknowledged more than a second before the event (epoch); none was doubled."""
    assert not (result["sessions_lost"] or result["doubled_writes"]), summary(result)
    assert all(each["acknowledged"] > event - 1 for each in result["lost_writes_found"]), summary(result)


@pytest.fixture
def visitors(cluster):
    """Visitors who may notice: with visitors("an event") as run: ...; then look at run.result."""
    return lambda event, **options: Visitors(cluster, event, **options)


@pytest.fixture
def unnoticed(visitors):
    """Visitors who may notice nothing: no failed request, no lost session or write, no long wait."""
    return lambda event, worst_wait=1, **options: visitors(event, worst_wait=worst_wait, **options)
