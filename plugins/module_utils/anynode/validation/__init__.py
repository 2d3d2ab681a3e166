"""Checks of an inventory that need no host. Each returns messages with culprit, expected value and remedy.

`Hosts` maps each host to its own variables: the inventory's and the command line's, evaluated; no role defaults.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Hosts = Mapping[str, Mapping[str, Any]]
Groups = Mapping[str, Sequence[str]]
Specs = Mapping[str, Mapping[str, Any]]  # argument spec by name of the option


def names(hosts: Iterable[str]) -> str:
    """Return hosts for a message: all of them if there are few, else the first three and the number of the others."""
    listed = list(hosts)
    return ", ".join(listed) if len(listed) <= 4 else f"{', '.join(listed[:3])} and {len(listed) - 3} more"


def shown(value: object) -> str:
    """Return a value for a message, shortened to a line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
