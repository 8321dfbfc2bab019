"""WebSocket frames (RFC 6455 section 5.2), known by their heads alone.

Law: no byte of a payload is looked at or changed; a head is read only to know where the frame
ends.  Extensions change what the reserved bits and the payload mean, never where it ends.
"""

from __future__ import annotations

import os

MAX_HEAD_BYTES = 14
MAX_REASON_BYTES = 123
"""Of a Close frame: 125 bytes of any control frame, less the code (section 5.5)."""

_CLOSE = 0x88
_MASKED = 0x80


class FrameReader:
    """Where the frames of one direction end, however the bytes are cut into reads.

    With `max_bytes`, a frame whose payload is longer is refused by its head.
    """

    __slots__ = ("_head", "_left", "_max_bytes")

    def __init__(self, max_bytes: int = 0) -> None:
        self._head = b""
        self._left = 0
        self._max_bytes = max_bytes

    @property
    def between(self) -> bool:
        """Whether what was read ended with a frame: here another one may be put in."""
        return not self._left and not self._head

    def feed(self, data: bytes) -> bool:
        """False when a frame is too long: nothing of `data` then counts as read."""
        before = self._head, self._left
        at, size = 0, len(data)
        while at < size:
            at = self.step(data, at)
            if at < 0:
                self._head, self._left = before
                return False
        return True

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
            self._head = b""
            self._left = length
            at += size - len(begun)
        taken = min(self._left, len(data) - at)
        self._left -= taken
        return at + taken


def close_frame(code: int, reason: str, *, masked: bool = False) -> bytes:
    """A Close frame; `masked` as every frame to a server must be (section 5.3)."""
    payload = code.to_bytes(2, "big") + reason.encode("ascii")[:MAX_REASON_BYTES]
    if not masked:
        return bytes((_CLOSE, len(payload))) + payload
    mask = os.urandom(4)
    hidden = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes((_CLOSE, _MASKED | len(payload))) + mask + hidden


def _head_bytes(head: bytes) -> int:
    if len(head) < 2:
        return 2
    said = head[1] & 0x7F
    extended = 2 if said == 126 else 8 if said == 127 else 0
    return 2 + extended + (4 if head[1] & _MASKED else 0)


def _payload_bytes(head: bytes) -> int:
    said = head[1] & 0x7F
    if said == 126:
        return int.from_bytes(head[2:4], "big")
    return int.from_bytes(head[2:10], "big") if said == 127 else said
