"""The names of request fields: when two are one, and which are taken from every call.

Law: a field is known by its name with every letter lowered and every other sign but a digit
read as `-`, because some backends cannot tell `X_Tenant` and `X.Tenant` from `X-Tenant`.

Taken is what lets a client speak for somebody else: a backend that believes it acts on another
address, path or method than the one that was decided on.  A route whose backend needs one names it
under `keep_headers`.
"""

from __future__ import annotations

import re
import string
from types import MappingProxyType

TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
"""What a name may be made of (RFC 9110 section 5.6.2)."""

_FOLDED = bytes(
    ord(char.lower()) if char in string.ascii_letters + string.digits else ord("-")
    for char in map(chr, range(256))
)


def folded(name: bytes) -> bytes:
    """The name under which a field is known."""
    return name.translate(_FOLDED)


def folded_text(name: str) -> bytes:
    """The same of a name in a configuration; a letter of no field's name is a sign like others."""
    return folded(name.encode("latin-1", "replace"))


_OF_THE_PATH = "backends take it for how much of the path is not theirs"
NEVER_KEPT = MappingProxyType(
    {
        "proxy": "backends take it for a proxy of theirs",
        "script-name": _OF_THE_PATH,
        "path-info": _OF_THE_PATH,
    }
)
"""And why.  CGI and what descends from it make `HTTP_PROXY` of the first, the proxy of the
backend's own calls.  gunicorn cuts the text of `SCRIPT_NAME` off the path that it gives to the
application, and so serves another than the one that was judged."""

_ADDRESSES = (
    "X-Real-IP", "True-Client-IP", "X-Client-IP", "Client-IP", "X-Cluster-Client-IP",
    "CF-Connecting-IP", "CF-Connecting-IPv6", "Fastly-Client-IP", "Fly-Client-IP",
)  # fmt: skip
_OVERRIDING = (
    "X-Original-URL", "X-Rewrite-URL", "X-Script-Name", "X-Matched-Path", "X-Invoke-Path",
    "X-Middleware-Subrequest", "X-Sendfile-Type", "X-Accel-Mapping",
    "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
)  # fmt: skip

ADDRESS_FIELDS = frozenset(name.lower() for name in _ADDRESSES)
"""The client's address, as it says itself; `X-Forwarded-For` has the one that was seen."""
KEEPABLE = {name.lower(): name for name in (*_ADDRESSES, *_OVERRIDING)}
"""What a route may keep: the names in lower case, and as they are written."""

OF_PROXIES = frozenset(
    (b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host",
     b"x-forwarded-port", b"x-forwarded-method", b"x-forwarded-uri", b"x-forwarded-prefix",
     b"x-forwarded-server", b"x-forwarded-client-cert", b"x-forwarded-tls-client-cert",
     b"x-forwarded-tls-client-cert-info")
)  # fmt: skip
"""What a proxy says of a call and its connection, in lower case: believed of a trusted one alone.
Any other `X-Forwarded-…` (`-User`, `-Email`, `-Groups`) is nobody's to say: some backends take it
for who is calling, and most proxies pass a client's own."""

NOBODYS = (
    b"x-forwarded-user", b"x-forwarded-email", b"x-forwarded-groups",
    b"x-forwarded-preferred-username", b"x-forwarded-access-token", b"x-forwarded-ssl",
    b"x-forwarded-scheme",
)  # fmt: skip
"""Those of them that are met."""

TELLING_A_CALL = MappingProxyType(
    {
        "x-original-method": "use `request.method`",
        "x-original-uri": "use `request.path`",
        "x-original-host": "use `request.host`",
        "x-original-ip": "use `client.ip`",
        **dict.fromkeys(
            ("x-original-proto", "x-original-content-length", "x-original-transfer-encoding",
             "x-envoy-auth-partial-body"),
            "it is what another proxy tells of a call",
        ),
    }
)  # fmt: skip
"""By what a proxy that asks `/decide` describes a call, besides `X-Forwarded-…`: no field of the
call there, so of no call; and what to read in its place."""
TELLING_NAMES = frozenset(name.encode("ascii") for name in TELLING_A_CALL)

CLIENTS_OWN = frozenset(
    ("accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "dnt",
     "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since",
     "last-event-id", "origin", "pragma", "priority", "range", "referer", "save-data",
     "upgrade-insecure-requests", "user-agent")
)  # fmt: skip
"""What every client says of itself and of what it wants (RFC 9110 and its like): a route that
writes one takes it from its own calls alone."""
