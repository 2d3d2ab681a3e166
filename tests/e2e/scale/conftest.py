"""Fixtures for tests against running machines."""

from lib.cluster import cluster
from lib.load_fixtures import unnoticed, visitors

__all__ = ["cluster", "unnoticed", "visitors"]
