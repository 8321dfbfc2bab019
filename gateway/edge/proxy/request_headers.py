"""The header contract, forward: the lines that an upstream reads of a call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.access.field_names import OF_PROXIES, folded
from gateway.access.identity_headers import AUTHGATE
from gateway.access.routing.routes import Route
from gateway.bounded_memo import BoundedMemo
from gateway.edge.http1.cookie_pairs import pairs_with
from gateway.edge.http1.field_lines import quoted
from gateway.edge.http1.grammar import (
    name_of,
)
from gateway.edge.http1.request_head import OWN_COOKIES, VIA, RequestHead
from gateway.model import Principal

_FILTERS_MAX = 16
_LINES_MAX = 1_024
_LINE_BYTES_MAX = 256


def kept(head: RequestHead, names: frozenset[bytes]) -> list[bytes]:
    """The lines that were taken away and that a route keeps, but for those of this hop alone."""
    here = head.connection or ()
    named = ((name_of(line), line) for line in head.taken or ())
    return [line for name, line in named if name in names and name not in here]


def without(lines: Iterable[bytes], names: frozenset[bytes]) -> list[bytes]:
    """The lines but for those of `names`, in any spelling that a backend may take for them."""
    return [line for line in lines if folded(line[: line.find(b":")]) not in names]


class LineFilters:
    """`without`, for the few sets of names that routes have: the same lines come again and again.

    It belongs to a worker.  Which lines pass is remembered for each set, in bounded number and
    length; a line that does not pass is looked at each time.
    """

    def __init__(self) -> None:
        self._passing: BoundedMemo[frozenset[bytes], set[bytes]] = BoundedMemo(_FILTERS_MAX)

    def without(self, lines: list[bytes], names: frozenset[bytes]) -> list[bytes]:
        passing = self._passing.get(names)
        if passing is None:
            passing = set()
            self._passing.keep(names, passing)
        if passing.issuperset(lines):
            return lines
        left = without(lines, names)
        if len(passing) >= _LINES_MAX:
            passing.clear()
        passing.update(line for line in left if len(line) <= _LINE_BYTES_MAX)
        return left

    @property
    def remembered(self) -> int:
        """The lines that it knows."""
        return sum(map(len, self._passing.values()))


def foreign_cookies(values: Iterable[bytes]) -> list[bytes]:
    """The `Cookie` line without the gateway's own cookies; none when nothing is left.

    Names are compared without case: a backend that folds them must not find ours.
    """
    kept: list[bytes] = []
    for value in values:
        lower, left_from = value.lower(), 0
        for begin, end in pairs_with(b"__host-", lower):
            if lower[begin:end].split(b"=", 1)[0].strip(b" \t") in OWN_COOKIES:
                kept.append(value[left_from:begin].strip(b" \t;"))
                left_from = end
        kept.append(value[left_from:].strip(b" \t;") if left_from else value)
    left = b"; ".join(filter(None, kept))
    return [b"Cookie: " + left] if left else []


def identity_headers(principal: Principal) -> bytes:
    """The `X-Auth-*` lines of a caller, rendered once and kept in the principal.

    Subject, session and roles are of `[A-Za-z0-9._:@-]`.  In an address what is
    not printable ASCII is percent-encoded, and `%` with it: two addresses never render alike.
    """
    rendered = principal.identity_headers
    if rendered is None:
        rendered = principal.identity_headers = AUTHGATE.rendered(principal)
    return rendered


def identity_lines(route: Route, principal: Principal) -> bytes:
    """The lines by which the upstream of a route is told who calls; empty where by none."""
    other = route.other_identity
    return identity_headers(principal) if other is None else other.lines(principal)


def forwarded_headers(client_ip: str, scheme: str, host: bytes) -> bytes:
    """`X-Forwarded-*`, `Forwarded` and `Via` for a client whose own are not believed: lines
    joined by CRLF, as all of these functions give them.

    RFC 7239 section 6: an IPv6 address is in brackets and quoted; a host with a port is
    quoted because `:` is no token.
    """
    ip = client_ip.encode("ascii")
    proto = scheme.encode("ascii")
    node = b'"[%b]"' % ip if b":" in ip else ip
    named = b"host=%b;" % quoted(host) if host else b""
    lines = [b"X-Forwarded-For: " + ip, b"X-Forwarded-Proto: " + proto]
    if host:
        lines.append(b"X-Forwarded-Host: " + host)
    lines += [b"Forwarded: for=%b;%bproto=%b" % (node, named, proto), b"Via: " + VIA]
    return b"\r\n".join(lines)


def appended_headers(
    peer_ip: str,
    scheme: str,
    host: bytes,
    forwarded: Sequence[tuple[bytes, bytes]],
    claimed: frozenset[bytes] = frozenset(),
) -> bytes:
    """The same behind a trusted proxy: what it says of the call stays, and the proxy is added.

    `claimed`: what only the gateway may say, `X-Forwarded-Prefix` for one.
    """
    received: dict[bytes, list[bytes]] = {}
    for name, value in forwarded:
        lower = name.lower()
        if lower in OF_PROXIES and lower not in claimed:
            received.setdefault(lower, []).append(value)
    ip = peer_ip.encode("ascii")
    node = b'"[%b]"' % ip if b":" in ip else ip
    named = b"host=%b;" % quoted(host) if host else b""
    fresh = {
        b"X-Forwarded-For": ip,
        b"Forwarded": b"for=%b;%bproto=%b" % (node, named, scheme.encode("ascii")),
        b"Via": VIA,
    }
    lines = [
        b"%b: %b" % (name, b", ".join([*received.pop(name.lower(), ()), value]))
        for name, value in fresh.items()
    ]
    received.pop(b"x-forwarded-proto", None)
    lines.append(b"X-Forwarded-Proto: " + scheme.encode("ascii"))
    hosts = received.pop(b"x-forwarded-host", None) or [host]
    if hosts[0]:
        lines.append(b"X-Forwarded-Host: " + hosts[0])
    lines += [b"%b: %b" % (name, value) for name, each in received.items() for value in each]
    return b"\r\n".join(lines)
