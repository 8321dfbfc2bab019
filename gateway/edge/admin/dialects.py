"""The original call, as another proxy describes it: its request comes in, a head to judge
comes out.

Law: each of method, host, target, scheme and address comes exactly once and is of its own form,
or the whole is refused with the name of what is wrong.  Nothing is guessed and nothing has a
default: an address that was left out would count every caller as one, a scheme that was left
out would make another origin.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.access.field_names import TELLING_NAMES
from gateway.access.routing.destinations import MOVING, has_destination
from gateway.access.routing.hosts import MAX_HOST_BYTES, canonical_host, plain_ip
from gateway.bounded_memo import BoundedMemo
from gateway.edge.http1.request_head import RequestHead, RequestLine
from gateway.edge.proxy.request import MOST_HOPS, last_hops
from gateway.edge.server.peer import Peer

_METHOD = re.compile(rb"[A-Z]+(?:-[A-Z]+)*")
_TARGET = re.compile(rb"[\x21-\x7e]+")
# Traefik names a WebSocket handshake by the scheme of its URL.
_HTTPS = {b"http": False, b"https": True, b"ws": False, b"wss": True}

TARGET_BYTES_MAX = 8_192 - len("OPTIONS  HTTP/1.1")
"""The request line that held it was at most 8 KiB at our own door."""

# What is read once is remembered, and a client may have written it.
_LONGEST_ADDRESS = 128


_NO_CLIENT = (
    f"X-Forwarded-For must come, end in an address, and name the client in {MOST_HOPS} hops."
)

Trusts = Callable[[str], bool]
"""Whether an address is a trusted peer's: a hop that is not the client."""


class FieldReader:
    """Reads addresses and hosts.  The same clients and hosts come again and again, and to read
    an address takes 3 µs: it belongs to one listener, and remembers a bounded number."""

    def __init__(self) -> None:
        self._addresses: BoundedMemo[bytes, str | None] = BoundedMemo(4_096)
        self._hosts: BoundedMemo[bytes, bool] = BoundedMemo(1_024)

    def address(self, text: bytes) -> str | None:
        if len(text) > _LONGEST_ADDRESS:
            return None
        if text not in self._addresses:
            self._addresses.keep(text, plain_ip(text.decode("latin-1").strip(" \t")))
        return self._addresses[text]

    def is_host(self, text: bytes) -> bool:
        if len(text) > MAX_HOST_BYTES:
            return False
        if text not in self._hosts:
            self._hosts.keep(text, canonical_host(text) is not None)
        return self._hosts[text]

    def client_of(self, values: list[bytes], trusts: Trusts) -> str | None:
        """The address of the client, read from the right: the first hop that is no trusted peer.

        What stands left of it was written by the client.  Where every hop is trusted, the
        leftmost is the client.  None for what is no address, and where it is too far away.
        """
        address: str | None = None
        hops, more = last_hops(values)
        for hop in hops:
            address = self.address(hop)
            if address is None or not trusts(address):
                return address
        return None if more else address


@dataclass(slots=True)
class OriginalRequest:
    """`head` has the method, the target, the host and the credential of the original call;
    `peer` is its client."""

    head: RequestHead
    peer: Peer


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What is wrong with the proxy's request, in the words of this file."""

    detail: str


QuestionReader = Callable[[RequestHead, Trusts, FieldReader], OriginalRequest | Unreadable]
"""Finds the original call in what a proxy asks."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind of proxy describes a call, and what it makes of an answer."""

    name: str
    read: QuestionReader
    only_401_and_403: bool = False
    """Any other refusal would become a 500: the status travels in `Authgate-Status`."""
    lists_removals: bool = False
    """Removes the fields that `x-envoy-auth-headers-to-remove` names."""


def _from_x_original(
    head: RequestHead, trusts: Trusts, reader: FieldReader
) -> OriginalRequest | Unreadable:
    """nginx: seven fields that the recipe sets, whatever the client sent; older ones five."""
    del trusts
    fields: dict[bytes, bytes] = {}
    for line in head.lines:
        if line[:11].lower() != b"x-original-":
            continue
        name, _, value = line.partition(b":")
        lower = name.lower()
        # A second one of any of them spoils it: no value is of the form that is asked for.
        fields[lower] = b"\0" if lower in fields else value.strip(b" \t")
    client_ip = reader.address(fields.get(b"x-original-ip", b""))
    if client_ip is None:
        return Unreadable("X-Original-IP must come exactly once and hold one address.")
    return original_request(
        head,
        RawFields(
            fields.get(b"x-original-method"),
            fields.get(b"x-original-uri"),
            fields.get(b"x-original-host"),
            fields.get(b"x-original-proto"),
            client_ip,
            _announced(
                fields.get(b"x-original-content-length", b""),
                fields.get(b"x-original-transfer-encoding", b""),
            ),
        ),
        "X-Original-",
        reader,
    )


def _from_x_forwarded(
    head: RequestHead, trusts: Trusts, reader: FieldReader
) -> OriginalRequest | Unreadable:
    """Traefik and Caddy: the fields of a forward-auth request."""
    fields = _forwarded(head)
    client_ip = reader.client_of(fields.get(b"x-forwarded-for", []), trusts)
    if client_ip is None:
        return Unreadable(_NO_CLIENT)
    return original_request(
        head,
        RawFields(
            _only(fields, b"x-forwarded-method"),
            _only(fields, b"x-forwarded-uri"),
            _only(fields, b"x-forwarded-host"),
            _only(fields, b"x-forwarded-proto"),
            client_ip,
            _announced(
                b",".join(fields.get(b"x-forwarded-content-length", ())),
                b",".join(fields.get(b"x-forwarded-transfer-encoding", ())),
            ),
        ),
        "X-Forwarded-",
        reader,
    )


ENVOY_PREFIX = "/decide/envoy"


def _from_request_line(
    head: RequestHead, trusts: Trusts, reader: FieldReader
) -> OriginalRequest | Unreadable:
    """Envoy: the original method, `Host`, and the original target behind our path."""
    fields = _forwarded(head)
    client_ip = reader.client_of(fields.get(b"x-forwarded-for", []), trusts)
    if client_ip is None:
        return Unreadable(_NO_CLIENT)
    return original_request(
        head,
        RawFields(
            head.method.encode("ascii"),
            head.target.removeprefix(ENVOY_PREFIX).encode("ascii"),
            head.host,
            _only(fields, b"x-forwarded-proto"),
            client_ip,
        ),
        "X-Forwarded-",
        reader,
    )


DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "nginx": Dialect("nginx", _from_x_original, only_401_and_403=True),
        "envoy": Dialect("envoy", _from_request_line, lists_removals=True),
        "traefik": Dialect("traefik", _from_x_forwarded),
        "caddy": Dialect("caddy", _from_x_forwarded),
    }
)


def dialect_of(target: str) -> Dialect | None:
    """The dialect in which a request for this target is written; None for no address of ours.

    Envoy puts the original target behind the path; with the others a query says nothing
    (Caddy keeps the client's).
    """
    if target.startswith(ENVOY_PREFIX + "/"):
        return DIALECTS["envoy"]
    name = target.partition("?")[0].removeprefix("/decide/")
    return DIALECTS.get(name) if name != "envoy" else None


class OriginalHead(RequestHead):
    """The call that a proxy asks about.  Its fields as the policies read them: the original
    `Host`, and nothing of what the proxy added to describe the call."""

    __slots__ = ("asked",)

    def __init__(
        self, start: RequestLine, host: bytes, asked: RequestHead, *, has_body: bool = False
    ) -> None:
        super().__init__(start, [])
        self.has_body = has_body
        self.host = host
        self.asked = asked
        self.authorization = asked.authorization
        self.cookie = asked.cookie

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        yield b"Host", self.host or b""
        for name, value in self.asked:
            lower = name.lower()
            if lower == b"host" or lower in TELLING_NAMES or lower.startswith(b"x-forwarded-"):
                continue  # no policy reads these (`conditions/vocabulary.py`)
            yield name, value
        if self.has_body:
            # Of a length that nobody need know.
            yield b"Transfer-Encoding", b"chunked"


@dataclass(slots=True)
class RawFields:
    """What the proxy sent, not yet read; None for what came never or twice."""

    method: bytes | None
    target: bytes | None
    host: bytes | None
    proto: bytes | None
    client_ip: str
    has_body: bool = False
    """Whether the proxy says that the call has a body.  The fields of the call that say so may be
    there as well, and those of the question, where the body is shown."""


def original_request(
    head: RequestHead, raw: RawFields, prefix: str, reader: FieldReader
) -> OriginalRequest | Unreadable:
    """The call that `raw` describes; `prefix` names the fields where one is wrong."""
    method, target, host = raw.method, raw.target, raw.host
    if method is None or not _METHOD.fullmatch(method):
        return Unreadable(f"{prefix}Method must come exactly once and hold a method.")
    if target is None or len(target) > TARGET_BYTES_MAX or not _TARGET.fullmatch(target):
        return Unreadable(f"{prefix}URI must come exactly once and hold the target as it came.")
    if host is None or not reader.is_host(host):
        return Unreadable(f"{prefix}Host must come exactly once and hold a host.")
    https = _HTTPS.get(raw.proto or b"")
    if https is None:
        return Unreadable(f"{prefix}Proto must come exactly once and be http or https.")
    if method.decode("ascii") in MOVING and not has_destination(head):
        return Unreadable("A COPY or MOVE must come with its Destination, which is judged, too.")
    start = RequestLine(b"", method.decode("ascii"), target.decode("ascii"), 1)
    original = OriginalHead(start, host, head, has_body=raw.has_body)
    return OriginalRequest(original, Peer(raw.client_ip, https=https, trusted=False))


def _announced(length: bytes, coding: bytes) -> bool:
    """Whether the call has a body, by its framing: the proxy does not pass that on as it came.
    What was told twice says that it has one."""
    return bool(length.strip(b"0") or coding)


def _forwarded(head: RequestHead) -> dict[bytes, list[bytes]]:
    fields: dict[bytes, list[bytes]] = {}
    for name, value in head.forwarded or ():
        fields.setdefault(name.lower(), []).append(value)
    return fields


def _only(fields: Mapping[bytes, list[bytes]], name: bytes) -> bytes | None:
    values = fields.get(name, [])
    return values[0] if len(values) == 1 else None
