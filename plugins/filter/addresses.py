"""Addresses and networks in the form that nft accepts."""

import ipaddress
from collections.abc import Iterable
from typing import Any

from ansible.errors import AnsibleFilterError


def networks(sources: Iterable[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Return addresses and networks as ipaddress networks. Raises AnsibleFilterError for any other text."""
    try:
        return [ipaddress.ip_network(str(source)) for source in sources]
    except ValueError as error:
        raise AnsibleFilterError(
            f"The firewall can't admit a source: {error}. Examples: 192.0.2.7, 192.0.2.0/24."
        ) from None


def addresses(sources: Iterable[str], version: int) -> list[str]:
    """Return the sources of one IP version, sorted and without overlaps, which nft rejects."""
    chosen: list[Any] = [network for network in networks(sources) if network.version == version]
    merged = ipaddress.collapse_addresses(chosen)
    return [str(net.network_address) if net.num_addresses == 1 else str(net) for net in merged]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"addresses": addresses}
