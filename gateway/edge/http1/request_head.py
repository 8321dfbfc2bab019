"""A request's head, read in one way or not at all; and what of it reaches the upstream.

Law: a field is known by its name with every letter lowered and every other sign but a digit
read as `-`.  So `X_Auth_User_Id`, `x-auth-user-id` and `X.Auth.User.Id`, which some backends
cannot tell apart, cannot be told apart here either, and whatever is ours or hop-by-hop in that
reading is removed before ours is added.  Names in `Connection` are removed first, ours are
added last: no client can take one of ours away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import filterfalse
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from gateway.access.field_names import KEEPABLE, NEVER_KEPT, folded
from gateway.bounded_memo import MINUTE_S, BoundedMemo
from gateway.edge.http1.grammar import (
    REQUEST_LINE,
    Malformed,
    check_line,
    check_name,
    name_of,
    tokens,
)
from gateway.model import Reason

if TYPE_CHECKING:
    from gateway.call_trace import CallTrace

OWN_COOKIES = frozenset(
    (
        b"__host-session",
        b"__host-device",
        b"__host-hand-over",
        b"__host-provider",
        b"__host-console",
    )
)
CSRF_NAMES = frozenset((b"x-csrf-token",))
VIA = b"1.1 authgate"

# What a request field is to this gateway.
PASS, DROP, HOST, AUTHORIZATION, COOKIE, REQUEST_ID, TRACEPARENT = range(7)
FORWARDED, CONNECTION, EXPECT, UPGRADE, LENGTH, CODING, TAKEN = range(7, 14)

_KINDS = {
    b"host": HOST,
    b"authorization": AUTHORIZATION,
    b"cookie": COOKIE,
    b"x-request-id": REQUEST_ID,
    b"traceparent": TRACEPARENT,
    b"connection": CONNECTION,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
    b"forwarded": FORWARDED,
    b"via": FORWARDED,
    b"x-forwarded": DROP,
    b"forwarded-for": DROP,
    # RFC 9110 section 7.6.1: these speak of the connection, whether `Connection` names them
    # or not.  The framing that the upstream sees is written by the gateway.
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"proxy-authorization": DROP,
    b"proxy-authenticate": DROP,
    b"te": DROP,
    b"trailer": DROP,
    b"http2-settings": DROP,
    **dict.fromkeys((name.encode() for name in NEVER_KEPT), DROP),
    **dict.fromkeys((name.encode() for name in KEEPABLE), TAKEN),
}

MEMO_ENTRIES = 4_096
_MEMO_LINE_BYTES = 2_048
_MEMO_REQUEST_LINE_BYTES = 256
# Kind and value of these lines are remembered; what differs each time is left out.
_REMEMBERED = frozenset((PASS, DROP, HOST, AUTHORIZATION, CONNECTION))

_ORDINARY_CONNECTION = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings"))


class RequestLine:
    """A request line that was read: shared by all requests that have it."""

    __slots__ = ("method", "minor", "plain", "target", "text")

    def __init__(self, text: bytes, method: str, target: str, minor: int) -> None:
        self.text = text
        self.method = method
        self.target = target
        self.minor = minor
        self.plain = method == "GET" and minor == 1 and target[0] == "/"
        """Nearly always: it can be sent on as it is, and promises no body."""


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestHead:
    """A request's line and fields, and how its body is framed.

    `lines` are the fields that travel to the upstream, as whole lines; the others hold the
    values of the fields that the gateway itself reads.  To iterate it gives every field as it
    came: it is a `model.RawHeaders`, taken apart only if somebody looks.
    """

    __slots__ = (
        "authorization",
        "chunked",
        "connection",
        "cookie",
        "expect",
        "fields",
        "forwarded",
        "has_body",
        "host",
        "length",
        "lines",
        "method",
        "minor",
        "plain",
        "request_id",
        "start",
        "taken",
        "target",
        "trace",
        "traceparent",
        "upgrade",
    )

    trace: CallTrace
    """Set, and asked for, only where traces are on."""

    def __init__(self, start: RequestLine, fields: list[bytes]) -> None:
        self.start = start
        self.method = start.method
        self.target = start.target
        self.minor = start.minor
        self.plain = start.plain
        """A plain request line, no body, and of the fields that the gateway reads only `Host`,
        `Authorization` and `X-Request-Id`: what else may come need not be asked for."""
        self.fields = fields
        self.lines = fields
        self.length: int | None = None
        self.chunked = False
        self.has_body = False
        self.host: bytes | None = None
        self.authorization: list[bytes] | None = None
        self.cookie: list[bytes] | None = None
        self.request_id: bytes | None = None
        self.traceparent: bytes | None = None
        self.connection: list[bytes] | None = None
        self.expect: bytes | None = None
        self.upgrade: bytes | None = None
        self.forwarded: list[tuple[bytes, bytes]] | None = None
        self.taken: list[bytes] | None = None
        """Lines that reach only an upstream whose route keeps them."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        parts = [line.partition(b":") for line in self.fields]
        return iter([(name, value.strip(b" \t")) for name, _, value in parts])

    @property
    def expects_continue(self) -> bool:
        """RFC 9110 section 10.1.1: to ignore from 1.0, and where there is no body."""
        return (
            self.expect is not None
            and self.minor == 1
            and self.has_body
            and self.expect.lower() == b"100-continue"
        )

    @property
    def keeps_open(self) -> bool:
        """RFC 9112 section 9.3: 1.1 persists unless it says `close`, 1.0 only if it asks."""
        if self.connection is None:
            return self.minor == 1
        if b"close" in self.connection:
            return False
        return self.minor == 1 or b"keep-alive" in self.connection


def classify(name: bytes) -> int:
    """What a field of this name is; any but the plain spelling of a special one is dropped."""
    check_name(name)
    known = folded(name)
    if known.startswith(b"x-auth-"):
        kind = DROP
    elif known.startswith(b"x-forwarded-"):
        kind = FORWARDED
    else:
        kind = _KINDS.get(known, PASS)
    if kind and known != name.lower():
        kind = DROP
    return kind


def _settle(head: RequestHead) -> None:
    """What the fields say together."""
    head.plain = False
    if head.chunked and (head.length is not None or not head.minor):
        # Section 6.1: a length beside a coding, and a coding in 1.0, are attacks or errors.
        raise Malformed("framing")
    head.has_body = head.chunked or bool(head.length)
    connection = head.connection
    if connection is not None and not _ORDINARY_CONNECTION.issuperset(connection):
        named = set(connection)  # a head has room for 8,000 of them
        head.lines = [field for field in head.lines if name_of(field) not in named]


def _keep(head: RequestHead, kind: int, line: bytes, value: bytes) -> None:
    """What `read` does not keep itself: it does that with the first of the common fields."""
    if kind == HOST:
        raise Malformed("two hosts")
    if kind == AUTHORIZATION:
        head.authorization = [*(head.authorization or ()), value]
    elif kind == CONNECTION:
        head.connection = tokens(value) + (head.connection or [])
    elif kind == REQUEST_ID:
        # Two of them say nothing: neither is kept.
        head.request_id = b""
    elif kind == COOKIE:
        head.cookie = [*(head.cookie or ()), value]
    elif kind == FORWARDED:
        head.forwarded = [*(head.forwarded or ()), (line[: line.find(b":")], value)]
    elif kind == TAKEN:
        head.taken = [*(head.taken or ()), line]
    elif kind == TRACEPARENT:
        head.traceparent = value if head.traceparent is None else b""
    elif kind == LENGTH:
        # Plain digits: int() would take "+5", "1_0" and more.  18 digits stay below 2^63.
        if head.length is not None or not value.isdigit() or len(value) > 18:
            raise Malformed("content length")
        head.length = int(value)
    elif kind == CODING:
        # Section 6.1: exactly `chunked`; any other coding, or a second one, is refused.
        if head.chunked or value.lower() != b"chunked":
            raise Malformed("transfer coding")
        head.chunked = True
    elif kind == EXPECT:
        head.expect = value
    elif kind == UPGRADE:
        # Several make a list, of which nothing is granted; none of it may hide from who looks.
        head.upgrade = value if head.upgrade is None else head.upgrade + b", " + value


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """`head_bytes` with the empty line that closes it; `line_bytes` of the request line."""

    head_bytes: int = 16_384
    fields: int = 100
    line_bytes: int = 8_192


class RequestHeadReader:
    """Reads the heads of one listener, and remembers lines that were checked before.

    Nothing that is remembered decides anything, and all of it is bounded in number and in
    length: a client can invent lines and names without end.
    """

    __slots__ = (
        "_is_plain",
        "_is_quiet",
        "_kinds",
        "_lines",
        "_max_fields",
        "_plain",
        "_quiet",
        "_starts",
        "limits",
    )

    def __init__(self, limits: HeadLimits | None = None, *, entries: int = MEMO_ENTRIES) -> None:
        """`entries`: of each kind that are remembered at most."""
        self.limits = limits or HeadLimits()
        self._max_fields = self.limits.fields
        self._starts: BoundedMemo[bytes, RequestLine] = BoundedMemo(entries, kept_s=MINUTE_S)
        """The same paths are asked for again and again."""
        self._kinds: BoundedMemo[bytes, int] = BoundedMemo(entries)
        """By the spelling of a name."""
        self._lines: BoundedMemo[bytes, tuple[int, bytes]] = BoundedMemo(entries, kept_s=MINUTE_S)
        """Kind and value of whole lines that say something."""
        self._quiet: BoundedMemo[bytes, None] = BoundedMemo(entries)
        """Whole lines that only pass, or are dropped and say nothing."""
        self._plain: set[bytes] = set()
        """Those of `_quiet` that pass."""
        self._is_quiet = self._quiet.__contains__
        self._is_plain = self._plain.__contains__

    @property
    def remembered(self) -> int:
        """The entries of the largest of its memos."""
        return max(len(self._starts), len(self._kinds), len(self._lines), len(self._quiet))

    def read(self, block: bytes) -> RequestHead | Reason:
        """The request in `block`, which ends before the CRLF CRLF that closed it.

        HEADER_TOO_LARGE for more fields than `limits` has; Malformed for anything that another
        reader might frame or understand differently.
        """
        fields = block.split(b"\r\n")
        line = fields.pop(0)
        start = self._starts.get(line) or self._read_line(line)
        if len(fields) > self._max_fields:
            return Reason.HEADER_TOO_LARGE
        head = RequestHead(start, fields)
        head.lines = list(filter(self._is_plain, fields))
        fresh: list[bytes] | None = None
        asked, lines = False, self._lines
        # To 1.0 a `Connection: keep-alive` says something.
        for field in filterfalse(self._is_quiet if start.minor else self._is_plain, fields):
            kind, value = lines.get(field) or self._read_field(field)
            if kind == HOST and head.host is None:
                head.host = value
            elif kind == AUTHORIZATION and head.authorization is None:
                head.authorization = [value]
            elif kind == REQUEST_ID and head.request_id is None:
                head.request_id = value
            elif kind == PASS:
                fresh = [field] if fresh is None else [*fresh, field]
            elif kind != DROP:
                asked = True
                _keep(head, kind, field, value)
        if fresh is not None:
            head.lines = list(filter({*head.lines, *fresh}.__contains__, fields))
        if head.host is None and start.minor:
            # RFC 9112 section 3.2: 400 for a 1.1 request without Host, and for more than one.
            raise Malformed("no host")
        if asked:
            _settle(head)
        return head

    def _read_line(self, line: bytes) -> RequestLine:
        match = REQUEST_LINE.fullmatch(line)
        if match is None:
            raise Malformed("request line")
        method, target, minor = match.groups()
        start = RequestLine(line, method.decode("ascii"), target.decode("ascii"), minor[0] - 48)
        if len(line) <= _MEMO_REQUEST_LINE_BYTES and self._starts.comes_again(line):
            self._starts.keep(line, start)
        return start

    def _read_field(self, line: bytes) -> tuple[int, bytes]:
        """Kind and value of a field line that did not come before, or not lately."""
        check_line(line)
        name, colon, value = line.partition(b":")
        kind = self._kinds.get(name)
        if kind is None:
            kind = classify(name)
            self._kinds.keep(name, kind)
        if not colon:
            raise Malformed("no colon")
        read = kind, value.strip(b" \t")
        if kind in _REMEMBERED and len(line) <= _MEMO_LINE_BYTES and self._quiet.comes_again(line):
            self._remember(line, read)
        return read

    def _remember(self, line: bytes, read: tuple[int, bytes]) -> None:
        kind, value = read
        if kind in (PASS, DROP) or (kind == CONNECTION and value == b"keep-alive"):
            if len(self._quiet) >= self._quiet.most:
                self._plain.clear()
            self._quiet.keep(line, None)
            if kind == PASS:
                self._plain.add(line)
        if kind not in (PASS, DROP):
            self._lines.keep(line, read)
