"""Ansible's linear strategy over mitogen, wherever the virtual environment keeps it.

Chosen by ANSIBLE_STRATEGY=mitogen_linear, which the Makefile and molecule set; without it the stock strategy runs.
"""

import os
from functools import cache

from ansible_mitogen import affinity, module_finder
from ansible_mitogen.plugins.strategy.mitogen_linear import StrategyModule

# mitogen reserves a core for its multiplexer. Of two or three cores, that leaves too few to Ansible and to ssh.
if (os.cpu_count() or 1) < 4:
    affinity.policy = affinity.Policy()

# To find the imports of a module, mitogen compiles all files that it imports, for each module again: a sixth of the
# time of a run that changes nothing. With the cache it compiles each file once.
module_finder.compile = cache(compile)

__all__ = ["StrategyModule"]
