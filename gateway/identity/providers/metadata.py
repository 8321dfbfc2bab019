"""Where a provider's endpoints are (OpenID Connect Discovery 1.0, RFC 8414).

Law: a document speaks for the issuer whose name it gives, byte for byte, and names endpoints of the
issuer's origin, or of those that the configuration names, alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.access.providers import Provider, ProviderKind
from gateway.identity.issuers.discovery import discovery_members, origin
from gateway.identity.issuers.jwk_set import DocumentRefused

_GITHUB = "https://github.com"


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What a sign-in needs to know; None where the provider has none."""

    authorization: str
    token: str
    jwks_uri: str = ""
    userinfo: str | None = None
    end_session: str | None = None
    pushed_authorization: str | None = None
    names_iss: bool = False
    """Whether its answers name it (RFC 9207): one that does not is another's then."""
    tells_auth_time: bool = False
    """Whether it can say when somebody signed in there."""
    client_auth_methods: tuple[str, ...] = ("client_secret_basic",)
    """Section 3 of Discovery: this one where it names none."""


def read_metadata(raw: bytes, provider: Provider) -> ProviderMetadata:
    """Raises DocumentRefused."""
    document = discovery_members(raw, provider.issuer)
    methods = document.get("token_endpoint_auth_methods_supported")
    claims = document.get("claims_supported")
    return ProviderMetadata(
        authorization=_needed(document, "authorization_endpoint", provider),
        token=_needed(document, "token_endpoint", provider),
        jwks_uri=_needed(document, "jwks_uri", provider),
        userinfo=_endpoint(document, "userinfo_endpoint", provider),
        end_session=_endpoint(document, "end_session_endpoint", provider),
        pushed_authorization=_endpoint(document, "pushed_authorization_request_endpoint", provider),
        names_iss=document.get("authorization_response_iss_parameter_supported") is True,
        tells_auth_time=isinstance(claims, list) and "auth_time" in claims,
        client_auth_methods=(
            tuple(str(one) for one in methods)
            if isinstance(methods, list)
            else ("client_secret_basic",)
        ),
    )


def known_metadata(provider: Provider) -> ProviderMetadata | None:
    """Of GitHub, which publishes none (docs.github.com, Authorizing OAuth apps)."""
    if provider.kind is not ProviderKind.GITHUB:
        return None
    site = provider.issuer.issuer.removesuffix("/")
    api = "https://api.github.com" if site == _GITHUB else f"{site}/api/v3"
    return ProviderMetadata(
        authorization=f"{site}/login/oauth/authorize",
        token=f"{site}/login/oauth/access_token",
        userinfo=f"{api}/user",
        client_auth_methods=("client_secret_post",),
    )


def _needed(document: Mapping[str, Any], name: str, provider: Provider) -> str:
    url = _endpoint(document, name, provider)
    if url is None:
        raise DocumentRefused(f"the discovery names no {name}")
    return url


def _endpoint(document: Mapping[str, Any], name: str, provider: Provider) -> str | None:
    url = document.get(name)
    if url is None:
        return None
    if not isinstance(url, str) or (found := origin(url)) is None:
        raise DocumentRefused(f"the {name} of the discovery is no https URL")
    if found not in {origin(one) for one in (provider.issuer.issuer, *provider.origins)}:
        raise DocumentRefused(
            f"the {name} of the discovery, {url}, has another origin than the issuer:"
            " if that is right, name it among the origins of the provider"
        )
    return url
