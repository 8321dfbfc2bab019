"""The blocks `attributes:` and `tenants:` read (docs/attributes.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gateway.access.attributes import (
    Attribute,
    AttributeType,
    SetBy,
    TenantRules,
    is_tenant_name,
)
from gateway.access.routing.routes import PatternSegment, SegmentKind
from gateway.config.yaml_reader import Node, Reader

ATTRIBUTE_KEYS = ("type", "values", "claim", "set_by")
TENANT_KEYS = ("roles",)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_CLAIM = re.compile(r"[A-Za-z][A-Za-z0-9_:./-]{0,63}\Z")
_OWN_CLAIMS = frozenset(
    ("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "user_id", "roles", "email",
     "email_verified", "sid", "client_id", "amr", "acr", "auth_time", "scope", "scp", "cnf", "act",
     "azp", "nonce", "at_hash", "c_hash", "events", "attributes", "tenants", "tenant")
)  # fmt: skip
"""Claims that say something of their own in our tokens, or would to somebody who reads one."""
_MOST = 64
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}\Z")


def read_attributes(reader: Reader, node: Node | None) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {}
    claims: dict[str, str] = {}
    for name, value in reader.entries(node, "`attributes`").items():
        if not _NAME.match(name):
            reader.error(
                reader.name_of(value),
                "the name of an attribute is lower-case letters, digits and `_`: a condition reads"
                " it as `user.attributes.NAME`",
            )
            continue
        attribute = _attribute(reader, name, value)
        if attribute.claim is not None:
            rival = claims.setdefault(attribute.claim, name)
            if rival != name:
                reader.error(value, f"the claim `{attribute.claim}` is that of `{rival}` already")
        attributes[name] = attribute
    if len(attributes) > _MOST and node is not None:
        reader.error(node, f"`attributes` holds at most {_MOST}")
    return attributes


def read_tenants(reader: Reader, node: Node | None) -> TenantRules | None:
    """None without the block: then no account is of a tenant."""
    if node is None:
        return None
    fields = reader.block(node, "`tenants`", TENANT_KEYS)
    roles: list[str] = []
    for text, item in reader.texts(fields.get("roles"), "`roles`") or []:
        if not is_tenant_name(text):
            reader.error(item, f"`{text}` is no role: 1 to 128 of A-Z a-z 0-9 . _ : @ -")
        elif text not in roles:
            roles.append(text)
    if not roles:
        reader.error(node, "`tenants` needs `roles:`, those that an account may have in a tenant")
    return TenantRules(tuple(roles), reader.location(node))


def read_route_tenant(
    reader: Reader, node: Node | None, segments: Sequence[PatternSegment]
) -> str | None:
    """The parameter of `tenant: "{org}"`."""
    text = reader.text(node, "`tenant`")
    if text is None or node is None:
        return None
    names = [part.text for part in segments if part.kind is not SegmentKind.LITERAL]
    match = _PARAMETER.match(text)
    if match is None or match[1] not in names:
        known = ", ".join(f"`{{{name}}}`" for name in names) or "and this path has none"
        reader.error(node, f"`tenant` is a parameter of the path such as `{{org}}`: {known}")
        return None
    return match[1]


def _attribute(reader: Reader, name: str, node: Node) -> Attribute:
    fields = reader.block(node, f"attribute `{name}`", ATTRIBUTE_KEYS)
    kind = reader.choice(fields.get("type"), "`type`", tuple(AttributeType))
    attribute_type = AttributeType(kind or AttributeType.STRING)
    values = [text for text, _ in reader.texts(fields.get("values"), "`values`") or []]
    if "values" in fields:
        plain = Attribute(name)
        if attribute_type not in (AttributeType.STRING, AttributeType.LIST):
            reader.error(fields["values"], "`values` are those of a `string` or a `list`")
        for text in values:
            if (problem := plain.problem(text)) is not None:
                reader.error(fields["values"], f"an entry of `values` {problem}")
    claim, in_token = _claim(reader, fields)
    set_by = [
        SetBy(word)
        for text, item in reader.texts(fields.get("set_by"), "`set_by`") or []
        if (word := _one_of(reader, item, text)) is not None
    ]
    return Attribute(
        name,
        attribute_type,
        tuple(dict.fromkeys(values)),
        claim,
        in_token,
        frozenset(set_by) if "set_by" in fields else frozenset((SetBy.OPERATOR,)),
        reader.location(reader.name_of(node)),
    )


def _claim(reader: Reader, fields: Mapping[str, Node]) -> tuple[str | None, bool]:
    node = fields.get("claim")
    if node is None:
        return None, True
    if getattr(node, "value", None) == "off":
        return None, False
    text = reader.text(node, "`claim`")
    if text is None:
        return None, True
    if text in _OWN_CLAIMS:
        reader.error(node, f"the claim `{text}` says something of its own: choose another name")
    elif not _CLAIM.match(text):
        reader.error(node, f"`{text}` is no name of a claim: letters, digits and any of _ : . / -")
    return text, True


def _one_of(reader: Reader, node: Node, text: str) -> str | None:
    return reader.choice(node, "an entry of `set_by`", tuple(SetBy)) if text else None
