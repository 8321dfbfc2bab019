"""The functions that conditions have besides CEL's own."""

from __future__ import annotations

import ipaddress
from typing import Any

from gateway.access.roles import matches
from gateway.bounded_memo import BoundedMemo
from gateway.model import OWN_ISSUER, Principal

# A caller writes what is read: an IPv6 address, its zone, a text of any length.
_LONGEST_ADDRESS = 128
_REMEMBERED = 1_024

FAILED = object()
"""No value of the engine, so that the call fails: a callback that raises writes to standard error,
and what gives null is equal to nothing, which `!=` takes for an answer."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressBlocks:
    """The function `in_cidr` of one condition, with the blocks and addresses it read lately."""

    def __init__(self) -> None:
        self._networks: BoundedMemo[str, Network | None] = BoundedMemo(_REMEMBERED)
        self._addresses: BoundedMemo[str, Address | None] = BoundedMemo(_REMEMBERED)

    def in_cidr(self, address: Any, block: Any) -> bool | None:
        """Whether `address` lies in `block`; None, which fails the condition, if either is none.

        An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
        """
        if not isinstance(address, str) or not isinstance(block, str):
            return None
        if len(address) > _LONGEST_ADDRESS or len(block) > _LONGEST_ADDRESS:
            return None
        if block not in self._networks:
            self._networks.keep(block, _network(block))
        if address not in self._addresses:
            self._addresses.keep(address, address_of(address))
        network, read = self._networks[block], self._addresses[address]
        if network is None or read is None:
            return None
        return read.version == network.version and read in network


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def address_of(text: str) -> Address | None:
    """The address; None for what is none, and for more text than one can have."""
    if len(text) > _LONGEST_ADDRESS:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def has_scope(principal: Principal | None, action: Any) -> bool:
    """Whether the credential may be used for `action`: any of ours may that is limited to nothing,
    and another issuer's token that was granted the scope of this very name."""
    if principal is None or not isinstance(action, str):
        return False
    if principal.issuer != OWN_ISSUER:
        return action in principal.granted_scopes
    if principal.scopes is None:
        return True
    return any(matches(scope, action) for scope in principal.scopes)
