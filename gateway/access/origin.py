"""Proof of intent: whether a call that carries the cookie is one that its user meant.

The browser adds the cookie by itself, so a page of another origin can make it travel.
This is judged before the cookie is looked up (contract 4).  A bearer token needs none of it:
no browser adds that by itself.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from gateway.access.upstreams import Cors
from gateway.model import Call, RawHeaders, Reason

SAFE_METHODS = frozenset(("GET", "HEAD"))


class CsrfCheck(Protocol):
    def csrf_valid(self, call: Call) -> bool:
        """Whether `X-CSRF-Token` belongs to the session cookie; the session is not looked up."""


class Intent(Enum):
    PROVEN = auto()
    WITHOUT_COOKIE = auto()
    """Judge the call as one that brought no credential."""
    NEEDS_TOKEN = auto()
    """Only the CSRF token can prove it."""


def unmeant(call: Call, cors: Cors | None, csrf: CsrfCheck | None) -> Reason | None:
    """None when the caller meant to send the cookie; it is not looked up yet.

    NO_CREDENTIAL where the call is to be judged as one without the cookie.
    """
    meant = intent(call, cors)
    if isinstance(meant, Reason):
        return meant
    if meant is Intent.NEEDS_TOKEN:
        if csrf is not None and csrf.csrf_valid(call):
            return None
        if call.method not in SAFE_METHODS or _is_handshake(call.headers):
            return Reason.CSRF_INVALID
    return None if meant is Intent.PROVEN else Reason.NO_CREDENTIAL


def intent(call: Call, cors: Cors | None) -> Intent | Reason:
    """What the browser's own headers prove; CROSS_ORIGIN when they prove the contrary.

    `cors` is what the route (or `/auth`) allows to other origins.
    """
    site = _single(call.headers, b"sec-fetch-site")
    origin = _single(call.headers, b"origin")
    if site is None or origin is None:
        # A field that came twice: no browser sends that.
        return Reason.CROSS_ORIGIN
    if call.method in SAFE_METHODS and not _is_handshake(call.headers):
        return _reading(call, cors, site, origin)
    return _writing(call, cors, site, origin)


def own_origin(call: Call) -> str:
    """The origin of the request itself, as a browser would write it."""
    authority = (_single(call.headers, b"host") or call.host).lower()
    default = ":443" if call.scheme == "https" else ":80"
    return f"{call.scheme}://{authority.removesuffix(default)}"


def _writing(call: Call, cors: Cors | None, site: str, origin: str) -> Intent | Reason:
    if origin == "null":
        return Reason.CROSS_ORIGIN
    if site == "same-origin":
        return Intent.PROVEN
    if site:
        # `none` cannot be had for an unsafe method from a browser: only a list helps.
        return Intent.PROVEN if _listed(origin, cors) else Reason.CROSS_ORIGIN
    if origin:
        meant = origin == own_origin(call) or _listed(origin, cors)
        return Intent.PROVEN if meant else Reason.CROSS_ORIGIN
    return Intent.NEEDS_TOKEN


def _reading(call: Call, cors: Cors | None, site: str, origin: str) -> Intent:
    """A read is not refused: what cannot be proven is answered as to a stranger."""
    if origin == "null":
        return Intent.WITHOUT_COOKIE
    if _listed(origin, cors):
        return Intent.PROVEN
    if site in ("same-origin", "none"):
        return Intent.PROVEN
    if site:
        mode = _single(call.headers, b"sec-fetch-mode")
        destination = _single(call.headers, b"sec-fetch-dest")
        top = mode == "navigate" and destination == "document"
        return Intent.PROVEN if top else Intent.WITHOUT_COOKIE
    if origin:
        return Intent.PROVEN if origin == own_origin(call) else Intent.WITHOUT_COOKIE
    return Intent.NEEDS_TOKEN


def _listed(origin: str, cors: Cors | None) -> bool:
    return bool(origin) and cors is not None and cors.credentials and origin in cors.origins


def _is_handshake(headers: RawHeaders) -> bool:
    upgrade = _single(headers, b"upgrade")
    return upgrade is None or upgrade.lower() == "websocket"


def _single(headers: RawHeaders, name: bytes) -> str | None:
    """The value of a field, empty where there is none; None where it came more than once."""
    values = [value for key, value in headers if key.lower() == name]
    if not values:
        return ""
    return values[0].decode("latin-1") if len(values) == 1 else None
