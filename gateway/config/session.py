"""The `session` block of `routes.yaml`: the hosts that share a sign-in (docs/browsers.md)."""

from __future__ import annotations

from gateway.access.routing.route_table import RouteTable
from gateway.config.hosts import read_host, strangers_below
from gateway.config.yaml_reader import Node, Reader


def read_shared_hosts(reader: Reader, node: Node | None, table: RouteTable) -> frozenset[str]:
    """The hosts below the domain that routes name one by one; empty without the block.

    No pattern of hosts is among them: who may choose a name that it takes could have a
    session handed over.
    """
    fields = reader.block(node, "`session`", ("domain",))
    if node is None:
        return frozenset()
    domain_node = fields.get("domain")
    if domain_node is None:
        reader.error(node, "`session` needs `domain`: the domain whose hosts share a sign-in")
        return frozenset()
    domain = read_host(reader, domain_node)
    if domain is None:
        return frozenset()
    if strangers_below(domain) is not None:
        hint = "write the domain that is yours, such as `example.com`"
        reader.error(domain_node, f"names below `{domain}` belong to strangers: {hint}")
        return frozenset()
    shared = frozenset(
        host for host in table.named_hosts() if host == domain or host.endswith(f".{domain}")
    )
    if not shared:
        reader.error(domain_node, f"no route names a host of `{domain}` in `match.host`")
    return shared
