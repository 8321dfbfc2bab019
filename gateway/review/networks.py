"""Addresses that stand for all, and networks described in few words."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

EVERYWHERE: tuple[Network, ...] = (
    ipaddress.ip_network("0.0.0.0/0"),
    ipaddress.ip_network("::/0"),
)
_FEW = 3
"""Blocks that are listed; of more, what they leave out is listed."""


def network_of(text: str) -> Network | None:
    """A block or a single address; None for any other text."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


class Cells:
    """The parts into which some networks cut all addresses: what lies in exactly the same of
    them.  Two networks lie apart or one in the other, so each is the root of one part."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._all = sorted({*EVERYWHERE, *networks}, key=_order)

    def addresses(self) -> dict[str, Network]:
        """An address of every part that has one, with the network that the part is left of."""
        addresses: dict[str, Network] = {}
        # The ordinary ones come first, so that they stand for what nobody names.
        tried = ["127.0.0.1", "2001:db8::1"]
        for network in self._all:
            first, last = network.network_address, network.broadcast_address
            tried += [str(first), str(last)]
            for edge, step in ((first, -1), (last, 1)):
                try:
                    tried.append(str(edge + step))
                except ipaddress.AddressValueError:
                    continue
        seen: set[Network] = set()
        for text in tried:
            cell = self.cell(text)
            if cell not in seen:
                seen.add(cell)
                addresses[text] = cell
        return addresses

    def cell(self, address: str) -> Network:
        """The narrowest network that holds `address`."""
        read = ipaddress.ip_address(address)
        holding = [n for n in self._all if n.version == read.version and read in n]
        return max(holding, key=lambda n: n.prefixlen)

    def describe(self, cells: Collection[Network]) -> str:
        """The union of some parts: `10.0.0.0/8`, `outside 10.0.0.0/8`."""
        blocks = self.blocks(cells)
        others = self.blocks({n for n in self._all if n not in cells})
        if len(blocks) <= _FEW or len(blocks) <= len(others):
            return ", ".join(map(str, blocks))
        return "outside " + ", ".join(map(str, others))

    def blocks(self, cells: Collection[Network]) -> list[Network]:
        """The fewest networks that are just these parts."""
        networks: list[Network] = []
        for version in (4, 6):
            whole = [n for n in self._all if n.version == version]
            left: list[Network] = []
            for network in whole:
                if network in cells:
                    left = [*left, network] if not _inside(network, left) else left
                else:
                    left = _without(left, network)
            networks += _collapsed(left)
        return networks


def _order(network: Network) -> tuple[int, int, int]:
    return network.version, network.prefixlen, int(network.network_address)


def _inside(network: Network, blocks: Iterable[Network]) -> bool:
    return any(network.subnet_of(one) for one in blocks)  # type: ignore[arg-type]


def _without(blocks: list[Network], network: Network) -> list[Network]:
    remaining: list[Network] = []
    for block in blocks:
        if network.subnet_of(block):  # type: ignore[arg-type]
            remaining += block.address_exclude(network)  # type: ignore[arg-type]
        else:
            remaining.append(block)
    return remaining


def _collapsed(blocks: list[Network]) -> list[Network]:
    return list(ipaddress.collapse_addresses(blocks))  # type: ignore[type-var]
