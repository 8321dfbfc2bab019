"""What a route may say, or leave to `defaults`, and the blocks that it may name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from gateway.access.definitions import (
    DEFAULT_CHALLENGE,
    STANDARD_SECURITY_HEADERS,
    Challenge,
    Cors,
    HeaderChanges,
    Limit,
    SecurityHeaders,
    Upstream,
)
from gateway.access.identity_headers import IdentityHeaders
from gateway.access.issuers import Issuer
from gateway.access.policies import Policy
from gateway.access.routing.routes import Auth
from gateway.access.suggestions import suggestion
from gateway.access.websocket_options import DEFAULT_WEBSOCKET_OPTIONS, WebSocketOptions
from gateway.config.resource_server import ResourceOptions
from gateway.config.secrets import SecretSource
from gateway.config.yaml_reader import Node, Reader
from gateway.model import DEFAULT_ACCEPT, OWN_ISSUERS, CredentialKind

_ROLE = re.compile(r"[A-Za-z0-9._:@-]{1,128}\Z")
DEFAULT_BODY_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Names:
    """The blocks that routes may name."""

    upstreams: Mapping[str, Upstream]
    limits: Mapping[str, Limit]
    cors: Mapping[str, Cors]
    policies: Mapping[str, Policy]
    secrets: SecretSource
    issuers: Mapping[str, Issuer]


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """What a route may say, or leave to `defaults`."""

    auth: Auth = Auth.REQUIRED
    accept: frozenset[CredentialKind] = DEFAULT_ACCEPT
    challenge: Challenge = DEFAULT_CHALLENGE
    upstream: Upstream | None = None
    limits: tuple[Limit, ...] = ()
    cors: Cors | None = None
    max_body_bytes: int = DEFAULT_BODY_BYTES
    security_headers: SecurityHeaders | None = STANDARD_SECURITY_HEADERS
    explain_role: str | None = None
    request: HeaderChanges | None = None
    response: HeaderChanges | None = None
    websocket: WebSocketOptions = DEFAULT_WEBSOCKET_OPTIONS
    reevaluates: bool = False
    kept_headers: frozenset[bytes] = frozenset()
    identity: IdentityHeaders | None = None
    """None: what the upstream or the defaults say."""
    issuers: frozenset[str] = OWN_ISSUERS
    resource_server: ResourceOptions | None = None
    sign_in_page: bool = False


def cors_named(
    reader: Reader, name: str | None, node: Node | None, known: Mapping[str, Cors]
) -> Cors | None:
    if name is None or node is None or name == "off":
        return None
    if name not in known:
        reader.error(node, f"unknown cors `{name}`{suggestion(name, known)}")
    return known.get(name)


def read_explain_role(reader: Reader, node: Node) -> str | None:
    """`errors: explain` is for `admin`; `errors: {explain: ROLE}` names another role."""
    if isinstance(node, yaml.ScalarNode):
        text = reader.choice(node, "`errors`", ("plain", "explain"))
        return "admin" if text == "explain" else None
    block = reader.block(node, "`errors`", ("explain",))
    role = reader.text(block.get("explain"), "`explain`")
    if role is not None and not _ROLE.match(role):
        reader.error(block["explain"], f"`{role}` is no role")
    return role
