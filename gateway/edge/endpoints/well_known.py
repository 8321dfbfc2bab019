"""The documents that tell others how to verify the tokens issued here, and where to get one.

/.well-known/jwks.json                        RFC 7517
/.well-known/oauth-authorization-server       RFC 8414
/.well-known/oauth-protected-resource[/PATH]  RFC 9728, of each resource: `resource_metadata.py`

They are made of settings, the configuration and the key ring, never of the request: a `Host`
that a client chose, and no route names, appears in none of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from gateway.access.routing import own_paths
from gateway.access.routing.own_paths import OwnPaths, document_path, is_resource_metadata
from gateway.edge.endpoints.resource_metadata import CORS, PREFLIGHT, ResourceMetadata
from gateway.edge.replies.problems import HSTS, OWN_HEADERS
from gateway.identity.keys.key_ring import JWKS_MAX_AGE_S, Jwks, KeyRing
from gateway.model import Call

JWKS_PATH = document_path(own_paths.JWKS)
AUTHORIZATION_SERVER_PATH = document_path(own_paths.AUTHORIZATION_SERVER)

METHODS = ("GET", "HEAD")

_CACHED = f"public, max-age={JWKS_MAX_AGE_S}"


@dataclass(frozen=True, slots=True)
class WellKnownOptions:
    """`public_url` is the origin that clients use; `client_credentials` says whether
    /auth/token, /auth/introspect and /auth/revoke are there."""

    public_url: str
    issuer: str
    client_credentials: bool = False
    own_paths: OwnPaths = field(default_factory=OwnPaths)


class WellKnown:
    def __init__(
        self, ring: KeyRing, options: WellKnownOptions, resources: ResourceMetadata
    ) -> None:
        self._ring = ring
        self._https = options.public_url.startswith("https:")
        self._authorization_server = _document(_authorization_server(options))
        self._resources = resources
        self._by_path: dict[str, Callable[[web.BaseRequest], web.Response]] = {
            JWKS_PATH: self.jwks,
            AUTHORIZATION_SERVER_PATH: self.authorization_server,
        }

    def answer(self, request: web.BaseRequest, call: Call) -> web.Response | None:
        """None where the call is for none of them."""
        if is_resource_metadata(call.segments):
            return self._resource(request, call)
        make = self._by_path.get("/" + "/".join(call.segments))
        return None if make is None else make(request)

    def methods(self, call: Call) -> tuple[str, ...]:
        """Any other is 405, which the caller of `answer` sends."""
        return (*METHODS, "OPTIONS") if is_resource_metadata(call.segments) else METHODS

    def jwks(self, request: web.BaseRequest) -> web.Response:
        """The keys that verify our tokens, the one that will sign next among them."""
        return self._answer(request, self._ring.jwks, "application/jwk-set+json")

    def authorization_server(self, request: web.BaseRequest) -> web.Response:
        return self._answer(request, self._authorization_server, "application/json")

    def _resource(self, request: web.BaseRequest, call: Call) -> web.Response | None:
        members = self._resources.members(call)
        if members is None:
            return None
        if call.method == "OPTIONS":
            return web.Response(status=204, headers={**OWN_HEADERS, **PREFLIGHT})
        answer = self._answer(request, _document(members), "application/json")
        answer.headers.update(CORS)
        return answer

    def _answer(self, request: web.BaseRequest, document: Jwks, media_type: str) -> web.Response:
        headers = {**OWN_HEADERS, "Cache-Control": _CACHED, "ETag": document.etag}
        if self._https:
            headers["Strict-Transport-Security"] = HSTS
        if _etag_matches(request.headers.getall("If-None-Match", []), document.etag):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = media_type
        return web.Response(body=document.body, headers=headers)


def _etag_matches(fields: list[str], etag: str) -> bool:
    """RFC 9110 section 13.1.2; the comparison is weak.  A tag is quoted, and what is quoted in ours
    is its own hash: wherever it stands in a field, it is one of the list."""
    return any(etag in field or field.strip() == "*" for field in fields)


def _document(members: dict[str, Any]) -> Jwks:
    body = json.dumps(members, separators=(",", ":")).encode()
    return Jwks(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _authorization_server(options: WellKnownOptions) -> dict[str, Any]:
    base = options.public_url.rstrip("/")
    members: dict[str, Any] = {
        "issuer": options.issuer,
        "jwks_uri": base + JWKS_PATH,
        # Required by section 2, and empty: there is no authorization endpoint.
        "response_types_supported": [],
        # Left out, it would mean "authorization_code" and "implicit" (section 2).
        "grant_types_supported": [],
    }
    if options.client_credentials:
        methods = ["client_secret_basic", "private_key_jwt"]
        algs = ["RS256", "ES256", "EdDSA"]
        members["grant_types_supported"] = ["client_credentials"]
        for name, path in (
            ("token", options.own_paths.endpoint("token")),
            ("introspection", options.own_paths.endpoint("introspect")),
            ("revocation", options.own_paths.endpoint("revoke")),
        ):
            members[f"{name}_endpoint"] = base + path
            members[f"{name}_endpoint_auth_methods_supported"] = methods
            members[f"{name}_endpoint_auth_signing_alg_values_supported"] = algs
    return members
