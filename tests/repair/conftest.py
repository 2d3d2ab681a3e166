"""Fixtures for tests against running machines."""

from support.cluster import cluster

__all__ = ["cluster"]
