"""Fixtures for tests against running machines."""

from lib.cluster import cluster

__all__ = ["cluster"]
