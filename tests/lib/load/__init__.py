"""Visitors who notice: logged-in load through the balancer, each answer checked. See `python -m lib.load --help`."""
