"""Ansible's linear strategy over mitogen, wherever the virtual environment keeps it.

Chosen by ANSIBLE_STRATEGY=mitogen_linear, which the Makefile and molecule set; without it the stock strategy runs.
"""

from ansible_mitogen.plugins.strategy.mitogen_linear import StrategyModule

__all__ = ["StrategyModule"]
