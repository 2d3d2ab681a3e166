"""Fixtures of all tests against running clusters."""

from lib.cluster import cluster
from lib.load_fixtures import under_load, unnoticed

__all__ = ["cluster", "under_load", "unnoticed"]
