"""Selects secrets of the table `topology_secrets`."""

from collections.abc import Callable, Container, Mapping
from typing import Any

Rules = Mapping[str, Mapping[str, Any]]


def rotated_secrets(table: Rules, variables: Container[str]) -> dict[str, Mapping[str, Any]]:
    """Return the secrets that playbooks/rotate_secrets.yml replaces.

    table: rules by name of the secret. variables: those of a host, without role defaults: the inventory defines the
    secrets among them, and only the operator can replace these.
    """
    return {name: rule for name, rule in table.items() if rule["rotated"] and name not in variables}


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"rotated_secrets": rotated_secrets}
