"""WebSocket frames (RFC 6455 section 5.2), known by their heads alone.

Law: no byte that passes is changed, and no payload is looked at but that of a Pong which may
answer a Ping of ours; a head is read only to know where the frame ends.  Extensions change what
the reserved bits and the payload mean, never where it ends.
"""

from __future__ import annotations

import os
import sys

MAX_HEAD_BYTES = 14
MAX_REASON_BYTES = 123
"""Of a Close frame: 125 bytes of any control frame, less the code (section 5.5)."""

_CLOSE, _PING, _PONG = 0x88, 0x89, 0x8A
"""First bytes of control frames: always whole (FIN), and changed by no extension known."""
_MASKED = 0x80


class FrameReader:
    """Where the frames of one direction end, however the bytes are cut into reads.

    With `max_bytes`, a frame whose payload is longer is refused by its head.  With `answer`,
    the Pong frames that carry this payload are kept from whoever reads on: they answer a Ping
    of ours, of which the other side knows nothing.
    """

    __slots__ = ("_head", "_left", "_max_bytes", "_pending_pong", "answer", "closed", "rest")

    def __init__(self, max_bytes: int = 0) -> None:
        self._head = b""
        self._left = 0
        self._max_bytes = max_bytes
        self._pending_pong = b""
        """The beginning of what may be an answer to us; nobody was given it."""
        self.answer = b""
        self.closed = False
        """A Close frame has begun: no frame may follow it in this direction (section 5.5.1)."""
        self.rest = b""
        """What came behind the frames that `feed` was to take."""

    @property
    def between(self) -> bool:
        """Whether what was passed on ended with a frame: here another one may be put in."""
        return not self._left and not self._head

    def feed(self, data: bytes, most: int = sys.maxsize) -> bytes | None:
        """What of the next `most` frames of `data` passes; None when one is too long: then
        nothing of it is read."""
        self.rest = b""
        if self.answer:
            return self._sifted(data, most)
        before = self._head, self._left
        at, size = 0, len(data)
        while at < size:
            if not most:
                self.rest = data[at:]
                return data[:at]
            most -= 1
            at = self.step(data, at)
            if at < 0:
                self._head, self._left = before
                return None
        return data

    def _sifted(self, data: bytes, most: int) -> bytes | None:
        """As `feed`, less the answers to us."""
        before = self._head, self._left, self._pending_pong
        data, self._pending_pong = self._pending_pong + data, b""
        passed: list[bytes] = []
        start, at, size = 0, 0, len(data)
        while at < size:
            if not most:
                self.rest = data[at:]
                size = at
                break
            most -= 1
            if data[at] == _PONG and self.between:
                end = _answer_end(data, at, self.answer)
                if end < 0:
                    self._pending_pong = data[at:]
                    size = at
                    break
                if end:
                    passed.append(data[start:at])
                    start = at = end
                    continue
            at = self.step(data, at)
            if at < 0:
                self._head, self._left, self._pending_pong = before
                return None
        if not start and size == len(data):
            return data
        passed.append(data[start:size])
        return b"".join(passed)

    def step(self, data: bytes, at: int) -> int:
        """How far the frame at `at` reaches, or `data` does; -1 when the frame is too long."""
        if not self._left:
            begun = self._head
            head = begun + data[at : at + MAX_HEAD_BYTES - len(begun)]
            size = _head_bytes(head)
            if len(head) < size:
                self._head = head
                return len(data)
            length = _payload_bytes(head)
            if self._max_bytes and length > self._max_bytes:
                return -1
            if head[0] == _CLOSE:
                self.closed = True
            self._head = b""
            self._left = length
            at += size - len(begun)
        taken = min(self._left, len(data) - at)
        self._left -= taken
        return at + taken


def close_frame(code: int, reason: str, *, masked: bool = False) -> bytes:
    """A Close frame; `masked` as every frame to a server must be (section 5.3)."""
    payload = code.to_bytes(2, "big") + reason.encode("ascii")[:MAX_REASON_BYTES]
    return _control(_CLOSE, payload, masked=masked)


def ping_frame(payload: bytes, *, masked: bool = False) -> bytes:
    """A Ping of at most 125 bytes, which the peer answers with a Pong that holds them too."""
    return _control(_PING, payload, masked=masked)


def _control(first: int, payload: bytes, *, masked: bool) -> bytes:
    if not masked:
        return bytes((first, len(payload))) + payload
    mask = os.urandom(4)
    return bytes((first, _MASKED | len(payload))) + mask + _masked(payload, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def _answer_end(data: bytes, at: int, payload: bytes) -> int:
    """The end of the Pong at `at` if it holds `payload`; 0 if it does not, -1 while `data`
    does not tell."""
    if len(data) == at + 1:
        return -1
    masked = data[at + 1] & _MASKED
    if data[at + 1] & 0x7F != len(payload):
        return 0
    begin = at + (6 if masked else 2)
    end = begin + len(payload)
    if len(data) < end:
        return -1
    content = data[begin:end]
    if masked:
        content = _masked(content, data[at + 2 : begin])
    return end if content == payload else 0


def _head_bytes(head: bytes) -> int:
    if len(head) < 2:
        return 2
    length = head[1] & 0x7F
    extended = 2 if length == 126 else 8 if length == 127 else 0
    return 2 + extended + (4 if head[1] & _MASKED else 0)


def _payload_bytes(head: bytes) -> int:
    length = head[1] & 0x7F
    if length == 126:
        return int.from_bytes(head[2:4], "big")
    return int.from_bytes(head[2:10], "big") if length == 127 else length
