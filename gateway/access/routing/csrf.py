"""CSRF: whether a call that carries the session cookie comes from a page that may send it.

The browser adds the cookie by itself, so a page of another origin can make it travel; and
so it does with Basic credentials, once its user has typed them.
This is checked before the cookie or the password is looked up.  A bearer token needs none of it:
no browser adds that by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol
from urllib.parse import urlsplit

from gateway.access.definitions import Cors
from gateway.access.routing.own_paths import url_host
from gateway.loopback import is_loopback_or_below
from gateway.model import Call, RawHeaders, Reason

SAFE_METHODS = frozenset(("GET", "HEAD"))


class CsrfCheck(Protocol):
    def csrf_valid(self, call: Call) -> bool:
        """Whether `X-CSRF-Token` belongs to the session cookie; the session is not looked up."""


class OriginCheck(Enum):
    """What the `Origin` and `Sec-Fetch-*` fields of a call prove."""

    PROVEN = auto()
    WITHOUT_COOKIE = auto()
    """Judge the call as one that brought no credential."""
    NEEDS_TOKEN = auto()
    """Only the CSRF token can prove it."""


class OwnOrigins:
    """The origins (RFC 6454) at which this gateway is reached, by its own configuration: what
    `Host` says is a stranger's word."""

    def __init__(self, public_url: str = "") -> None:
        """`public_url` is an origin in its shortest form; empty where nobody knows it."""
        parts = urlsplit(public_url)
        self._public = public_url
        self._public_host = url_host(public_url)
        self._scheme = f"{parts.scheme}://"
        self._port = port = f":{parts.port}" if parts.port is not None else ""
        schemes = ("https", "http") if is_loopback_or_below(parts.hostname or "") else ("https",)
        # A host of a route is served where the public URL is: at its port, or behind the default.
        self._around = tuple((f"{scheme}://", tail) for scheme in schemes for tail in ("", port))

    def origin_at(self, host: str | None) -> str:
        """The origin at which a host of a route is reached, as calls have it; None is the host
        of the public URL."""
        if host is None or host == self._public_host:
            return self._public
        return f"{self._scheme}{host}{self._port}"

    def hold(self, origin: str, host: str | None) -> bool:
        """Whether it is that of the public URL, or one of `host`, which a route names."""
        if origin == self._public:
            return bool(origin)
        return host is not None and any(
            origin == f"{scheme}{host}{port}" for scheme, port in self._around
        )


@dataclass(slots=True)
class AllowedOrigins:
    """Whose pages may send the cookie along with a call."""

    own: OwnOrigins
    host: str | None = None
    """The host of the call, where the matched route names it: by a wildcard too, and then no
    other host of the same wildcard is meant."""
    cors: Cors | None = None
    """What the route (or `/auth`) allows to other origins."""

    def hold(self, origin: str) -> bool:
        return self.own.hold(origin, self.host) or self.listed(origin)

    def listed(self, origin: str) -> bool:
        cors = self.cors
        return bool(origin) and cors is not None and cors.credentials and origin in cors.origins


def csrf_refusal(call: Call, allowed: AllowedOrigins, csrf: CsrfCheck | None) -> Reason | None:
    """Why the call may not use the session cookie, which is not looked up yet; None when it may.

    NO_CREDENTIAL where the call is to be decided as one without the cookie.
    """
    check = check_origin(call, allowed)
    if isinstance(check, Reason):
        return check
    if check is OriginCheck.NEEDS_TOKEN:
        if csrf is not None and csrf.csrf_valid(call):
            return None
        if call.method not in SAFE_METHODS or _is_handshake(call.headers):
            return Reason.CSRF_INVALID
    return None if check is OriginCheck.PROVEN else Reason.NO_CREDENTIAL


def basic_refusal(call: Call, allowed: AllowedOrigins) -> Reason | None:
    """The same for Basic credentials, which a browser that asked its user for them adds by
    itself too.

    A call that says nothing of its origin comes from a native client, which has no page that
    could make it.
    """
    check = check_origin(call, allowed)
    if isinstance(check, Reason):
        return check
    return Reason.NO_CREDENTIAL if check is OriginCheck.WITHOUT_COOKIE else None


def check_origin(call: Call, allowed: AllowedOrigins) -> OriginCheck | Reason:
    """What the browser's own headers prove; CROSS_ORIGIN when they prove the contrary."""
    site = _single(call.headers, b"sec-fetch-site")
    origin = _single(call.headers, b"origin")
    if site is None or origin is None:
        # A field that came twice: no browser sends that.
        return Reason.CROSS_ORIGIN
    if call.method in SAFE_METHODS and not _is_handshake(call.headers):
        return _reading(call, allowed, site, origin)
    return _writing(call, allowed, site, origin)


def _writing(call: Call, allowed: AllowedOrigins, site: str, origin: str) -> OriginCheck | Reason:
    if origin == "null":
        return Reason.CROSS_ORIGIN
    if site == "same-origin":
        agrees = not origin or _agrees(call, allowed, origin)
        return OriginCheck.PROVEN if agrees else Reason.CROSS_ORIGIN
    if site:
        # `none` cannot be had for an unsafe method from a browser: only a list helps.
        return OriginCheck.PROVEN if allowed.listed(origin) else Reason.CROSS_ORIGIN
    if origin:
        return OriginCheck.PROVEN if allowed.hold(origin) else Reason.CROSS_ORIGIN
    return OriginCheck.NEEDS_TOKEN


def _reading(call: Call, allowed: AllowedOrigins, site: str, origin: str) -> OriginCheck:
    """A read is not refused: what cannot be proven is answered as to a stranger."""
    if origin == "null":
        return OriginCheck.WITHOUT_COOKIE
    if allowed.listed(origin):
        return OriginCheck.PROVEN
    if site in ("same-origin", "none"):
        agrees = not origin or _agrees(call, allowed, origin)
        return OriginCheck.PROVEN if agrees else OriginCheck.WITHOUT_COOKIE
    if site:
        top = is_navigation(call.headers)
        return OriginCheck.PROVEN if top else OriginCheck.WITHOUT_COOKIE
    if origin:
        return OriginCheck.PROVEN if allowed.hold(origin) else OriginCheck.WITHOUT_COOKIE
    return OriginCheck.NEEDS_TOKEN


def is_navigation(headers: RawHeaders) -> bool:
    """Whether a browser asks for a page to show in a tab of its own (Fetch Metadata, section 2)."""
    mode, destination = _single(headers, b"sec-fetch-mode"), _single(headers, b"sec-fetch-dest")
    return mode == "navigate" and destination == "document"


def _agrees(call: Call, allowed: AllowedOrigins, origin: str) -> bool:
    """Whether an `Origin` says the same as `Sec-Fetch-Site: same-origin` beside it.

    The browser compared it with what it asked for.  That is one of ours; or, on a host that
    nothing names, the `Host` that came, by either scheme where TLS may have ended before us.
    """
    if allowed.hold(origin):
        return True
    authority = (_single(call.headers, b"host") or call.host).lower()
    return any(
        origin == f"{scheme}://{authority.removesuffix(default)}"
        for scheme, default in (("https", ":443"), ("http", ":80"))
        if scheme == "https" or call.scheme == "http"
    )


def _is_handshake(headers: RawHeaders) -> bool:
    upgrade = _single(headers, b"upgrade")
    return upgrade is None or upgrade.lower() == "websocket"


def _single(headers: RawHeaders, name: bytes) -> str | None:
    """The value of a field, empty where there is none; None where it came more than once."""
    values = [value for key, value in headers if key.lower() == name]
    if not values:
        return ""
    return values[0].decode("latin-1") if len(values) == 1 else None
