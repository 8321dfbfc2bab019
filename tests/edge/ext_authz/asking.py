"""Envoy's part of ext_authz over gRPC: what it asks, and what it makes of the answer.

The messages are written and read by number here, not by the code under test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import grpc
import grpc.aio

from tests.edge.rig import Answer

CHECK = "/envoy.service.auth.v3.Authorization/Check"
Fields = tuple[tuple[str, str], ...]


def varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def put(number: int, value: bytes) -> bytes:
    """A field of bytes, text or a message; one that is empty is left out, as proto3 does."""
    return varint(number << 3 | 2) + varint(len(value)) + value if value else b""


def taken(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Each field of a message with its number."""
    at = 0

    def number() -> int:
        nonlocal at
        found = shift = 0
        while True:
            byte = message[at]
            at += 1
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return found

    while at < len(message):
        key = number()
        value = number()
        if key & 7 == 2:
            yield key >> 3, message[at : at + value]
            at += value
        else:
            assert key & 7 == 0, key
            yield key >> 3, value


def all_of(message: bytes, number: int) -> list[bytes]:
    return [bytes(value) for key, value in taken(message) if key == number]


def one_of(message: bytes, number: int) -> bytes:
    """Empty where it did not come.  A message that comes twice is both, one after the other
    (https://protobuf.dev/programming-guides/encoding/#last-one-wins)."""
    return b"".join(all_of(message, number))


def number_of(message: bytes, number: int) -> int:
    found = [value for key, value in taken(message) if key == number]
    assert all(isinstance(value, int) for value in found)
    return int(found[-1]) if found else 0


@dataclass
class Asked:
    """What Envoy holds and asks about."""

    target: str = "/me"
    fields: Fields = ()
    method: str = "GET"
    host: str = "api.example.com"
    scheme: str = "https"
    source: str = "203.0.113.7"
    raw: bool = True
    """`encode_raw_headers`: each field as it came, and not a map of names."""
    body: bytes | None = None
    partial: bool = False
    pseudo: dict[str, str] = field(default_factory=dict)

    def message(self) -> bytes:
        pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.fields]
        whole = {
            ":method": self.method,
            ":path": self.target,
            ":authority": self.host,
            ":scheme": self.scheme,
            **self.pseudo,
        }
        pairs += [(name.encode(), value.encode("latin-1")) for name, value in whole.items()]
        if self.body is not None:
            pairs.append((b"x-envoy-auth-partial-body", str(self.partial).lower().encode()))
        if self.raw:
            values = (put(1, put(1, name) + put(3, value)) for name, value in pairs)
            headers = put(13, b"".join(values))
        else:
            merged: dict[bytes, bytes] = {}
            for name, value in pairs:
                merged[name] = merged[name] + b"," + value if name in merged else value
            headers = b"".join(put(3, put(1, n) + put(2, v)) for n, v in merged.items())
        http = (
            put(1, b"1234")
            + put(2, self.method.encode("latin-1"))
            + headers
            + put(4, self.target.encode("latin-1"))
            + put(5, self.host.encode("latin-1"))
            + put(6, self.scheme.encode("latin-1"))
            + put(10, b"HTTP/1.1")
            + put(12, self.body or b"")
        )
        source = put(1, put(1, put(2, self.source.encode()) + varint(3 << 3) + varint(5000)))
        extensions = put(10, put(1, b"a") + put(2, b"b"))
        return put(1, put(1, source) + put(4, put(2, http)) + extensions)


@dataclass
class Checked:
    """The answer, read."""

    message: bytes

    @property
    def allowed(self) -> bool:
        return not number_of(one_of(self.message, 1), 1)

    @property
    def metadata(self) -> dict[str, str]:
        entries = all_of(one_of(self.message, 4), 1)
        return {one_of(e, 1).decode(): one_of(one_of(e, 2), 3).decode() for e in entries}

    def headers(self, number: int = 2) -> list[tuple[bytes, bytes]]:
        """Of the request, of the denial; 6: those that are added to the response."""
        return [(name, value) for name, value, _ in self._options(number)]

    @property
    def all_overwrite(self) -> bool:
        """Whether no field is put beside one that is there."""
        numbers = (2, 6) if self.allowed else (2,)
        return all(over for number in numbers for _, _, over in self._options(number))

    @property
    def removed(self) -> list[bytes]:
        return all_of(one_of(self.message, 3), 5)

    def answer(self, fields: Fields) -> Answer:
        """As the tests of the other dialects read one.  An allowed call: the fields that its
        backend sees, with those that its client is told of limits."""
        if self.allowed:
            assert self.all_overwrite
            seen = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]
            for name, value in self.headers():
                seen = [pair for pair in seen if pair[0] != name.lower()] + [(name, value)]
            removed = {name.lower() for name in self.removed}
            assert not removed & {name.lower() for name, _ in self.headers()}
            seen = [pair for pair in seen if pair[0].lower() not in removed]
            seen += self.headers(6)
            seen.append((b"x-envoy-auth-headers-to-remove", b",".join(self.removed)))
            return Answer(_head(200, seen), b"")
        denied = one_of(self.message, 2)
        status = number_of(one_of(denied, 1), 1)
        return Answer(_head(status, self.headers()), one_of(denied, 3))

    def _options(self, number: int) -> Iterator[tuple[bytes, bytes, bool]]:
        for option in all_of(one_of(self.message, 3 if self.allowed else 2), number):
            header = one_of(option, 1)
            said = [key for key, _ in taken(option)]
            over = 2 in said and not number_of(one_of(option, 2), 1) and number_of(option, 3) == 2
            yield one_of(header, 1), one_of(header, 2), over


def _head(status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = b"".join(b"\r\n%b: %b" % pair for pair in fields)
    return b"HTTP/1.1 %d X%b\r\n\r\n" % (status, lines)


async def ask(address: str, message: bytes, *, method: str = CHECK) -> bytes:
    async with grpc.aio.insecure_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        return bytes(await call(message, timeout=20))


async def check(address: str, asked: Asked) -> Checked:
    return Checked(await ask(address, asked.message()))
