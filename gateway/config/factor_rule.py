"""The block `require_factor:` read (docs/factors.md)."""

from __future__ import annotations

from gateway.access.attributes import is_tenant_name
from gateway.access.factor_rule import NO_FACTOR_RULE, FactorRule
from gateway.config.yaml_reader import Node, Reader

FACTOR_KEYS = ("roles", "everyone", "within")


def read_factor_rule(reader: Reader, node: Node | None) -> FactorRule:
    """Whose sign-in needs a second factor; nobody's without the block."""
    fields = reader.block(node, "`require_factor`", FACTOR_KEYS)
    if node is None:
        return NO_FACTOR_RULE
    everyone = reader.flag(fields.get("everyone"), "`everyone`", False)
    roles: list[str] = []
    for text, item in reader.texts(fields.get("roles"), "`roles`") or []:
        if not is_tenant_name(text):
            reader.error(item, f"`{text}` is no role: 1 to 128 of A-Z a-z 0-9 . _ : @ -")
        roles.append(text)
    if everyone and roles:
        reader.error(node, "`everyone: true` holds for every role: leave `roles` out")
    if not everyone and not roles:
        reader.error(node, "`require_factor` needs `roles:`, or `everyone: true`")
    within_s = reader.duration_s(fields.get("within"), "`within`", least=0)
    return FactorRule(frozenset(roles), everyone, int(within_s or 0))
