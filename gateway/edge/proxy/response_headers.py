"""The header contract, back: what of an upstream's answer reaches the client."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gateway.access.definitions import HeaderChanges, SecurityHeaders
from gateway.edge.http1.field_lines import field_line
from gateway.edge.http1.grammar import name_of
from gateway.edge.http1.request_head import OWN_COOKIES, VIA
from gateway.edge.http1.response_head import (
    BINDING,
    COOKIE,
    CORS,
    LIMITS,
    SPECIAL,
    WATCHED,
    Head,
)
from gateway.edge.http1.response_head import VIA as VIA_FIELD
from gateway.limit_state import LimitState

_ORDINARY_CONNECTION = frozenset((b"close", b"keep-alive", b"upgrade"))
_VIA = b"Via: " + VIA


def response_lines(
    head: Head, *, keep_length: bool, own_cors: bool, own_limits: bool = False
) -> list[bytes]:
    """The upstream's fields that reach the client, as whole lines; `Via` holds ours.

    They are the head's own list, taken over.  `keep_length` is False where the length is not
    said to the client: 1xx and 204 must not have one (RFC 9110 section 8.6).  With `own_cors`
    and `own_limits` those fields are the gateway's on this route, and the upstream's are
    removed.
    """
    lines, via = head.fields, _VIA
    for line in head.removed:
        lines.remove(line)
    if head.length is not None and not keep_length:
        _drop(lines, (b"content-length",))
    if head.special is not None:
        upstream_via: list[bytes] = []
        for line, (kind, _, value) in head.special:
            if kind == VIA_FIELD:
                upstream_via.append(value)
            elif (
                (kind == COOKIE and not sets_own_cookie(line))
                or (kind == CORS and not own_cors)
                or (kind == LIMITS and not own_limits)
                or kind in (WATCHED, BINDING)
            ):
                continue
            lines.remove(line)
        if upstream_via:
            via = b"Via: " + b", ".join([*upstream_via, VIA])
    named = head.connection
    if named is not None and not _ORDINARY_CONNECTION.issuperset(named):
        # RFC 9110 section 7.6.1.  A length that is named stays: it frames what follows.
        removed = {*named} - {b"content-length"}
        _drop(lines, removed)
        _forget(head, removed)
    lines.append(via)
    return lines


def _drop(lines: list[bytes], names: Collection[bytes]) -> None:
    lines[:] = [line for line in lines if name_of(line) not in names]


def _forget(head: Head, names: Collection[bytes]) -> None:
    """What was taken away was not set: the route's security headers, or a `Date` of ours, may
    stand for it."""
    head.dated = head.dated and b"date" not in names
    if head.special is not None:
        head.special = [read for read in head.special if read[1][1] not in names] or None


def changed(lines: list[bytes], head: Head, changes: HeaderChanges) -> list[bytes]:
    """The lines as the route's `response` wants them; `head` forgets what they lost, and knows
    what they got."""
    _drop(lines, changes.names)
    _forget(head, changes.names)
    if changes.lines:
        written = changes.lines.split(b"\r\n")
        lines += written
        head.dated = head.dated or any(name_of(line) == b"date" for line in written)
        watched = [(line, (WATCHED, name_of(line), b"")) for line in written]
        head.special = [*(head.special or ()), *watched]
    return lines


def sets_own_cookie(line: bytes) -> bool:
    """Whether a `Set-Cookie` line would overwrite one of the gateway's cookies."""
    pair = line[line.find(b":") + 1 :].split(b";", 1)[0]
    # One without a name comes back as its value alone, which may look like one of ours.
    return pair.lstrip(b" \t=").split(b"=", 1)[0].strip(b" \t").lower() in OWN_COOKIES


class _Security:
    """The lines of one block of `security_headers`, ready to be sent."""

    __slots__ = ("hsts", "lines", "named", "over_tls", "spec")

    def __init__(self, spec: SecurityHeaders) -> None:
        self.spec = spec
        self.named = {
            name.lower().encode("ascii"): field_line(name, value) for name, value in spec.fields
        }
        self.lines = list(self.named.values())
        self.hsts = field_line(_HSTS, spec.hsts) if spec.hsts else None
        self.over_tls = self.lines if self.hsts is None else [*self.lines, self.hsts]

    def missing(self, present: set[bytes], *, https: bool) -> list[bytes]:
        """Those whose names the upstream did not send."""
        lines = [line for name, line in self.named.items() if name not in present]
        if https and self.hsts is not None and _HSTS.lower().encode("ascii") not in present:
            lines.append(self.hsts)
        return lines


_HSTS = "Strict-Transport-Security"


def security_lines(spec: SecurityHeaders, head: Head, *, https: bool) -> list[bytes]:
    """The route's `security_headers` that the upstream did not set itself."""
    rendered = head.reader.rendered
    ours: _Security | None = rendered.get(id(spec))
    if ours is None or ours.spec is not spec:
        ours = _Security(spec)
        rendered.keep(id(spec), ours)
        head.reader.watch((*ours.named, _HSTS.lower().encode("ascii")))
        # This head was read before anybody asked about these names.
        present = {name_of(line) for line in head.fields}
    elif head.special is None:
        return ours.over_tls if https else ours.lines
    else:
        present = {name for _, (_, name, _) in head.special}
    return ours.missing(present, https=https)


def limit_lines(limit: LimitState) -> bytes:
    """`RateLimit-Policy` and `RateLimit`, joined by CRLF; rendered once for each standing."""
    text = f"RateLimit-Policy: {limit.policy}\r\nRateLimit: {limit.standing()}"
    limit.fields = text.encode("ascii")
    return limit.fields


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


def trailer_lines(lines: Iterable[bytes], removed: frozenset[bytes] = frozenset()) -> bytes:
    """The trailer section for the client, its closing empty line included.

    Fields whose names are in `removed` are left out.
    """
    kept = []
    for line in lines:
        name = line[: line.find(b":")].lower()
        if name not in _NEVER_TRAILERS and name not in removed:
            kept.append(line + b"\r\n")
    return b"".join(kept) + b"\r\n"
