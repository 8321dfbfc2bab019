"""The header contract (contract 5), forward: what of a call reaches the upstream.

Law: a field is known by its name with every letter lowered and every other sign but a digit
read as `-`.  So `X_Auth_User_Id`, `x-auth-user-id` and `X.Auth.User.Id`, which some backends
cannot tell apart, cannot be told apart here either, and whatever is ours or hop-by-hop in that
reading is removed before ours is added.  Names in `Connection` are removed first, ours are
added last: no client can take one of ours away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from gateway.edge.wire import tokens
from gateway.model import Principal, RawHeaders

OWN_COOKIES = frozenset((b"__host-session", b"__host-device"))
VIA = b"1.1 authgate"

# What a request field is to this gateway.  PASS is 0 so that the hot loop tests truth only.
PASS, DROP, HOST, AUTHORIZATION, COOKIE, REQUEST_ID, TRACEPARENT = range(7)
FORWARDED, CONNECTION, EXPECT, UPGRADE = range(7, 11)

_KINDS = {
    b"host": HOST,
    b"authorization": AUTHORIZATION,
    b"cookie": COOKIE,
    b"x-request-id": REQUEST_ID,
    b"traceparent": TRACEPARENT,
    b"connection": CONNECTION,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
    b"forwarded": FORWARDED,
    b"via": FORWARDED,
    b"x-real-ip": FORWARDED,
    # RFC 9110 section 7.6.1: these speak of the connection, whether `Connection` names them
    # or not.  The framing that the upstream sees is written by the gateway.
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"proxy-authorization": DROP,
    b"proxy-authenticate": DROP,
    b"te": DROP,
    b"trailer": DROP,
    b"transfer-encoding": DROP,
    b"content-length": DROP,
    b"http2-settings": DROP,
}
_NOT_A_NAME = re.compile(rb"[^a-z0-9]")

# The kind of each spelling met.  Bounded: a client can invent names without end.
_spellings: dict[bytes, int] = {}
_SPELLINGS_MAX = 4_096

_ORDINARY_CONNECTION = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings"))


class RequestFields:
    """One pass over the fields of a request: those that travel, and those that are read here.

    `lines` holds what goes to the upstream as it came; the others hold the values of the
    fields that the gateway itself reads, in order.
    """

    __slots__ = (
        "authorization",
        "connection",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "lines",
        "request_id",
        "traceparent",
        "upgrade",
    )

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.host: bytes | None = None
        self.authorization: list[bytes] | None = None
        self.cookie: list[bytes] | None = None
        self.request_id: bytes | None = None
        self.traceparent: bytes | None = None
        self.connection: list[bytes] | None = None
        self.expect: bytes | None = None
        self.upgrade: bytes | None = None
        self.forwarded: list[tuple[bytes, bytes]] | None = None


def classify(name: bytes) -> int:
    """What a field of this spelling is; any but the plain spelling of a special one is dropped."""
    lower = name.lower()
    folded = _NOT_A_NAME.sub(b"-", lower)
    if folded.startswith(b"x-auth-"):
        kind = DROP
    elif folded.startswith(b"x-forwarded-"):
        kind = FORWARDED
    else:
        kind = _KINDS.get(folded, PASS)
    if kind and folded != lower:
        kind = DROP
    if len(_spellings) >= _SPELLINGS_MAX:
        _spellings.clear()
    _spellings[name] = kind
    return kind


def read_fields(raw_headers: RawHeaders) -> RequestFields:
    """Sort the fields of a request.  Two of `Host` never come here: the parser refuses them."""
    fields = RequestFields()
    lines = fields.lines
    for name, value in raw_headers:
        kind = _spellings.get(name)
        if kind is None:
            kind = classify(name)
        if not kind:
            lines += (name, b": ", value, b"\r\n")
        elif kind == HOST:
            fields.host = value
        elif kind == AUTHORIZATION:
            fields.authorization = [*(fields.authorization or ()), value]
        elif kind == REQUEST_ID:
            # Two of them say nothing: neither is kept.
            fields.request_id = value if fields.request_id is None else b""
        elif kind == CONNECTION:
            if value != b"keep-alive":
                fields.connection = tokens(value) + (fields.connection or [])
        elif kind != DROP:
            _keep(fields, kind, name, value)
    if fields.connection is not None and not _ORDINARY_CONNECTION.issuperset(fields.connection):
        named = fields.connection
        fields.lines = [
            piece
            for name, value in raw_headers
            if classify(name) == PASS and name.lower() not in named
            for piece in (name, b": ", value, b"\r\n")
        ]
    return fields


def _keep(fields: RequestFields, kind: int, name: bytes, value: bytes) -> None:
    if kind == COOKIE:
        fields.cookie = [*(fields.cookie or ()), value]
    elif kind == FORWARDED:
        fields.forwarded = [*(fields.forwarded or ()), (name, value)]
    elif kind == TRACEPARENT:
        fields.traceparent = value if fields.traceparent is None else b""
    elif kind == EXPECT:
        fields.expect = value
    elif kind == UPGRADE:
        fields.upgrade = value


def foreign_cookies(values: Iterable[bytes]) -> bytes:
    """The `Cookie` line without the gateway's own cookies; empty when nothing is left.

    Names are compared without case: a backend that folds them must not find ours.
    """
    kept = []
    for value in values:
        if b"__host-" not in value.lower():
            kept.append(value)
            continue
        pairs = (pair.strip(b" \t") for pair in value.split(b";"))
        kept += [
            pair
            for pair in pairs
            if pair and pair.split(b"=", 1)[0].strip(b" \t").lower() not in OWN_COOKIES
        ]
    return b"Cookie: " + b"; ".join(kept) + b"\r\n" if kept else b""


def identity_headers(principal: Principal) -> bytes:
    """The `X-Auth-*` lines of a caller, rendered once and kept in the principal.

    Subject, session and roles are of `[A-Za-z0-9._:@-]` (contract 4).  In an address what is
    not printable ASCII is percent-encoded, and `%` with it: two addresses never render alike.
    """
    rendered = principal.identity_headers
    if rendered is None:
        lines = [f"X-Auth-User-Id: {_safe(principal.subject)}\r\n"]
        if principal.email is not None:
            lines.append(f"X-Auth-Email: {_safe(principal.email)}\r\n")
        lines.append(f"X-Auth-Roles: {','.join(map(_safe, principal.roles))}\r\n")
        if principal.session_id is not None:
            lines.append(f"X-Auth-Session-Id: {_safe(principal.session_id)}\r\n")
        rendered = principal.identity_headers = "".join(lines).encode("ascii")
    return rendered


# What `quote` leaves as it is, besides letters, digits and "_.-~".
_PRINTABLE = "!\"#$&'()*+,/:;<=>?@[\\]^`{|}"


def _safe(text: str) -> str:
    return quote(text, safe=_PRINTABLE)


def forwarded_headers(client_ip: str, scheme: str, host: bytes) -> bytes:
    """`X-Forwarded-*`, `Forwarded` and `Via` for a client whose own are not believed.

    RFC 7239 section 6: an IPv6 address is in brackets and quoted; a host with a port is
    quoted because `:` is no token.
    """
    ip = client_ip.encode("ascii")
    proto = scheme.encode("ascii")
    node = b'"[%b]"' % ip if b":" in ip else ip
    named = b"host=%b;" % quoted(host) if host else b""
    lines = [
        b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (ip, proto),
        b"X-Forwarded-Host: %b\r\n" % host if host else b"",
        b"Forwarded: for=%b;%bproto=%b\r\nVia: %b\r\n" % (node, named, proto, VIA),
    ]
    return b"".join(lines)


def appended_headers(
    peer_ip: str, scheme: str, host: bytes, forwarded: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """The same behind a trusted proxy: what it said is kept, and the proxy itself added."""
    said: dict[bytes, list[bytes]] = {}
    for name, value in forwarded:
        said.setdefault(name.lower(), []).append(value)
    ip = peer_ip.encode("ascii")
    node = b'"[%b]"' % ip if b":" in ip else ip
    named = b"host=%b;" % quoted(host) if host else b""
    fresh = {
        b"X-Forwarded-For": ip,
        b"Forwarded": b"for=%b;%bproto=%b" % (node, named, scheme.encode("ascii")),
        b"Via": VIA,
    }
    lines = [
        b"%b: %b\r\n" % (name, b", ".join([*said.pop(name.lower(), ()), value]))
        for name, value in fresh.items()
    ]
    said.pop(b"x-forwarded-proto", None)
    lines.append(b"X-Forwarded-Proto: %b\r\n" % scheme.encode("ascii"))
    hosts = said.pop(b"x-forwarded-host", None) or [host]
    if hosts[0]:
        lines.append(b"X-Forwarded-Host: %b\r\n" % hosts[0])
    lines += [b"%b: %b\r\n" % (name, value) for name, each in said.items() for value in each]
    return b"".join(lines)


_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def quoted(text: bytes) -> bytes:
    """A token as it is, anything else as a quoted-string (RFC 9110 section 5.6.4)."""
    if _TOKEN.fullmatch(text):
        return text
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def field_line(name: str, value: str) -> bytes:
    """One line of ours.  A value that could end the line is a defect: ValueError."""
    if not _TOKEN.fullmatch(name.encode("latin-1")) or not _FIELD_VALUE.fullmatch(value):
        raise ValueError("a header field of ours holds a control character")
    return f"{name}: {value}\r\n".encode("latin-1")
