"""Where an issuer says that its keys are (OpenID Connect Discovery 1.0 section 4, RFC 8414).

Law: a document speaks for the issuer whose name it gives, byte for byte, and sends nobody to
another origin; where it must be another one, the configuration says so itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from gateway import strict_json
from gateway.access.issuers import Issuer
from gateway.identity.issuers.jwk_set import DocumentRefused
from gateway.loopback import is_loopback_or_below

DISCOVERY_BYTES_MAX = 64 * 1024
_WELL_KNOWN = "/.well-known/openid-configuration"
_URL_MAX = 2048
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class DiscoveredEndpoints:
    """None where the document names none."""

    jwks_uri: str | None
    introspection: str | None


def discovery_url(issuer: Issuer) -> str:
    """Section 4: a final slash of the issuer is removed first."""
    return issuer.discovery or issuer.issuer.removesuffix("/") + _WELL_KNOWN


def read_discovery(raw: bytes, issuer: Issuer) -> DiscoveredEndpoints:
    """Raises DocumentRefused."""
    document = discovery_members(raw, issuer)
    return DiscoveredEndpoints(
        _endpoint(document, "jwks_uri", issuer),
        _endpoint(document, "introspection_endpoint", issuer),
    )


def discovery_members(raw: bytes, issuer: Issuer) -> dict[str, Any]:
    """Of a document that speaks for the issuer.  Raises DocumentRefused."""
    if len(raw) > DISCOVERY_BYTES_MAX:
        raise DocumentRefused(f"the discovery has more than {DISCOVERY_BYTES_MAX // 1024} KiB")
    try:
        document = strict_json.loads(raw, encodable=True)
    except ValueError as error:
        raise DocumentRefused(
            f"the discovery is no JSON that everybody reads alike: {error}"
        ) from error
    if not isinstance(document, dict):
        raise DocumentRefused("the discovery is no JSON object")
    # Section 4.3: else one tenant's document could stand in for another's.
    if document.get("issuer") != issuer.issuer:
        named = str(document.get("issuer"))[:200]
        raise DocumentRefused(f"the discovery is of the issuer {named}, not of {issuer.issuer}")
    return document


def origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of a URL that may be asked: https, or http of this very machine."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if len(url) > _URL_MAX or not host or not _is_plain(url, parts):
        return None
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback_or_below(host)):
        return None
    return parts.scheme, host, _PORTS[parts.scheme] if port is None else port


def _is_plain(url: str, parts: SplitResult) -> bool:
    """Nothing that two readers of URLs could take for different hosts."""
    visible = url.isascii() and url.isprintable() and not any(mark in url for mark in " \\")
    return visible and parts.username is None and parts.password is None and not parts.fragment


def _endpoint(document: Mapping[str, Any], name: str, issuer: Issuer) -> str | None:
    url = document.get(name)
    if url is None:
        return None
    if not isinstance(url, str) or (found := origin(url)) is None:
        raise DocumentRefused(f"the {name} of the discovery is no https URL")
    if found != origin(issuer.issuer):
        told = "jwks_uri" if name == "jwks_uri" else "introspection.endpoint"
        raise DocumentRefused(
            f"the {name} of the discovery, {url}, has another origin than the issuer:"
            f" if that is right, name it as {told} in the configuration"
        )
    return url
