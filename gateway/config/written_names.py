"""The names of fields that any part of a configuration writes for an upstream.

Law: a backend that believes a field because the gateway writes it must get it from the gateway
alone, on whichever of its routes a call comes.  So what is written anywhere is taken from clients
everywhere, and the names are gathered before any route is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from gateway.access.definitions import HeaderChanges
from gateway.access.field_names import CLIENTS_OWN, folded_text
from gateway.access.identity_headers import PRESETS
from gateway.access.policies import Policy
from gateway.config.yaml_reader import Node

_NOT_TAKEN = frozenset(name.encode() for name in CLIENTS_OWN) | {b"authorization"}
"""Each route that writes one of these takes it of its own calls; a credential has its own rules."""
_DROPPED = b"x-auth-"
"""What begins so never gets past the reading of a request's head."""


@dataclass(frozen=True, slots=True)
class WrittenNames:
    """Folded, as `access.field_names` has it."""

    identity: frozenset[bytes]
    """Of `identity_headers`."""
    rules: frozenset[bytes]
    """Of the `headers` of rules."""
    routes: frozenset[bytes]
    """Of `set_headers`, less what every client sends of its own: a route may keep these."""
    _taken: dict[tuple[frozenset[bytes], frozenset[bytes]], frozenset[bytes]] = field(
        init=False, default_factory=dict
    )

    def taken(self, kept: frozenset[bytes], request: HeaderChanges | None) -> frozenset[bytes]:
        """What no client passes to the upstream of a route that keeps `kept` and changes
        `request`: one object for all routes that say the same."""
        key = kept, frozenset() if request is None else request.folded
        if key not in self._taken:
            self._taken[key] = self.identity | self.rules | (self.routes - kept) | key[1]
        return self._taken[key]


def written_names(fields: Mapping[str, Node], policies: Iterable[Policy]) -> WrittenNames:
    """Of a whole `routes.yaml`, whose blocks `fields` are, right or wrong."""
    identity: set[bytes] = set()
    routes: set[bytes] = set()
    for block in _blocks(fields):
        identity |= _identity_names(_child(block, "identity_headers"))
        written = _child(_child(block, "request"), "set_headers")
        routes |= {_folded(key) for key, _ in _pairs(written)}
    rules = {
        folded_text(name)
        for policy in policies
        for rule in policy.rules
        for name, _ in rule.headers
    }
    return WrittenNames(
        frozenset(name for name in identity if not name.startswith(_DROPPED)),
        frozenset(rules),
        frozenset(routes) - _NOT_TAKEN,
    )


def _blocks(fields: Mapping[str, Node]) -> Iterator[Node]:
    if "defaults" in fields:
        yield fields["defaults"]
    yield from (value for _, value in _pairs(fields.get("upstreams")))
    routes = fields.get("routes")
    if isinstance(routes, yaml.SequenceNode):
        yield from routes.value


def _identity_names(node: Node | None) -> set[bytes]:
    if isinstance(node, yaml.ScalarNode) and node.value in PRESETS:
        return set(PRESETS[node.value].names)
    if not isinstance(node, yaml.SequenceNode):
        return set()
    names: set[bytes] = set()
    for item in node.value:
        named = _child(item, "name")
        names |= _identity_names(item) if isinstance(item, yaml.ScalarNode) else set()
        names |= {_folded(named)} if isinstance(named, yaml.ScalarNode) else set()
    return names


def _child(node: Node | None, key: str) -> Node | None:
    if isinstance(node, yaml.MappingNode):
        name: Node
        value: Node
        for name, value in node.value:
            # The value of a list or a block is a list, and equals no key.
            if name.value == key:
                return value
    return None


def _pairs(node: Node | None) -> list[tuple[Node, Node]]:
    if not isinstance(node, yaml.MappingNode):
        return []
    return [pair for pair in node.value if isinstance(pair[0], yaml.ScalarNode)]


def _folded(node: Node) -> bytes:
    return folded_text(str(node.value))
