"""Fixtures for tests against running machines."""

from support.cluster import cluster
from support.visitors import unnoticed, visitors

__all__ = ["cluster", "unnoticed", "visitors"]
