"""Addresses and networks, as a firewall needs them."""

import ipaddress

from ansible.errors import AnsibleFilterError


def networks(sources):
    """Return addresses and networks as ipaddress networks; an AnsibleFilterError names what is neither."""
    try:
        return [ipaddress.ip_network(str(source)) for source in sources]
    except ValueError as error:
        raise AnsibleFilterError(f"The firewall can't let in {error}. Examples: 192.0.2.7, 192.0.2.0/24.") from None


def addresses(sources, version):
    """Return those of one IP version, in order and without overlaps, which nft would refuse."""
    chosen = ipaddress.collapse_addresses(net for net in networks(sources) if net.version == version)
    return [str(net.network_address) if net.num_addresses == 1 else str(net) for net in chosen]


def admit(sources, address):
    """Tell whether an address is one of the sources, or in one of them."""
    address = ipaddress.ip_address(address.split("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in net for net in networks(sources))


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Name the filters."""
        return {"addresses": addresses, "admit": admit}
