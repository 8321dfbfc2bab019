"""The header contract (contract 5), back: what of an upstream's answer reaches the client."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.access.upstreams import HeaderChanges, SecurityHeaders
from gateway.edge.headers import OWN_COOKIES, VIA, field_line
from gateway.edge.wire import SPECIAL, Head, tokens, value_of

_ORDINARY_CONNECTION = frozenset((b"close", b"keep-alive", b"upgrade"))
_CORS = b"access-control-"
_LIMITS = frozenset((b"ratelimit", b"ratelimit-policy"))
_VIA = b"Via: " + VIA


def response_lines(
    head: Head, *, keep_length: bool, own_cors: bool, own_limits: bool = False
) -> list[bytes]:
    """The upstream's fields that reach the client, as whole lines; `Via` holds ours.

    `keep_length` is False where the length is not said to the client: 1xx and 204 must not
    have one (RFC 9110 section 8.6).  With `own_cors` and `own_limits` those fields are the
    gateway's on this route, and the upstream's are removed.
    """
    lines = head.fields.copy()
    via = _VIA
    named: list[bytes] = []
    for i in reversed(head.special):
        name, line = head.names[i], lines[i]
        if name == b"content-length":
            if keep_length:
                continue
        elif name == b"connection":
            if line != b"Connection: keep-alive" and line != b"Connection: close":
                named += tokens(value_of(line))
        elif name == b"set-cookie":
            if not sets_own_cookie(line):
                continue
        elif name == b"via":
            via = b"Via: " + value_of(line) + b", " + via[5:]
        elif name in _LIMITS:
            if not own_limits:
                continue
        elif name.startswith(_CORS) and not own_cors:
            continue
        del lines[i]
    if named and not _ORDINARY_CONNECTION.issuperset(named):
        # RFC 9110 section 7.6.1.  A length that is named stays: it frames what follows.
        lines = [
            line
            for line in lines
            if (name := line[: line.find(b":")].lower()) not in named or name == b"content-length"
        ]
    lines.append(via)
    return lines


def changed(lines: list[bytes], head: Head, changes: HeaderChanges) -> list[bytes]:
    """The lines as the route's `response` wants them; `head` forgets what they lost."""
    names = changes.names
    lines = [line for line in lines if line[: line.find(b":")].lower() not in names]
    if changes.lines:
        lines.append(changes.lines)
    # What was taken away was not set: the route's security headers may stand for it.
    head.names = [name for name in head.names if name not in names]
    return lines


def sets_own_cookie(line: bytes) -> bool:
    """Whether a `Set-Cookie` line would overwrite one of the gateway's cookies."""
    pair = line[line.find(b":") + 1 :].split(b";", 1)[0]
    return pair.split(b"=", 1)[0].strip(b" \t").lower() in OWN_COOKIES


_security: dict[
    int, tuple[SecurityHeaders, dict[bytes, bytes], frozenset[bytes], list[bytes], bytes | None]
] = {}


def security_lines(spec: SecurityHeaders, head: Head, *, https: bool) -> list[bytes]:
    """The route's `security_headers` that the upstream did not set itself."""
    known = _security.get(id(spec))
    if known is None or known[0] is not spec:
        if len(_security) > 1_000:
            _security.clear()
        ours = {
            name.lower().encode("ascii"): field_line(name, value) for name, value in spec.fields
        }
        hsts = field_line("Strict-Transport-Security", spec.hsts) if spec.hsts else None
        known = _security[id(spec)] = spec, ours, frozenset(ours), list(ours.values()), hsts
    _, ours, named, lines, hsts = known
    names = head.names
    if not named.isdisjoint(names):
        lines = [line for name, line in ours.items() if name not in names]
    if https and hsts is not None and b"strict-transport-security" not in names:
        return [*lines, hsts]
    return lines


# RFC 9110 section 6.5.1: fields for framing, routing, authentication or content cannot be
# trailers; and none may stand for one of ours.
_NEVER_TRAILERS = SPECIAL | {
    b"content-encoding",
    b"content-type",
    b"content-range",
    b"trailer",
    b"host",
    b"authorization",
    b"www-authenticate",
    b"cache-control",
    b"location",
    b"age",
    b"expires",
    b"date",
    b"vary",
}


def trailer_lines(lines: Iterable[bytes], gone: frozenset[bytes] = frozenset()) -> bytes:
    """The trailer section for the client, its closing empty line included.

    Fields whose names are in `gone` are left out.
    """
    kept = []
    for line in lines:
        name = line[: line.find(b":")].lower()
        if name not in _NEVER_TRAILERS and name not in gone:
            kept.append(line + b"\r\n")
    return b"".join(kept) + b"\r\n"
