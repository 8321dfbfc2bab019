"""The chunked coding, read (RFC 9112 section 7.1)."""

from __future__ import annotations

import re
import sys
from typing import Final

from gateway.edge.http1.grammar import (
    FIELD_BYTES,
    TCHAR,
    Malformed,
    check_name,
)

MAX_CHUNK_LINE_BYTES = 1_024


MAX_TRAILER_BYTES = 16_384


# RFC 9112 section 7.1.1: chunk-ext = *( ";" chunk-ext-name [ "=" chunk-ext-val ] ).  The "bad
# white space" that the RFC lets a recipient accept is refused: no sender has a reason for it.
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e])*"'


_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})"
    rb"(?:;[" + TCHAR + rb"]+(?:=(?:[" + TCHAR + rb"]+|" + _QUOTED + rb"))?)*"
)

_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILER: Final = 3


class ChunkReader:
    """RFC 9112 section 7.1, in pieces of any size.

    `feed` returns how many bytes were taken, and adds the chunks' contents to `out`; `done` is
    set once the trailer section has ended.  `trailers` are the lines of that section, checked
    as field lines are.
    """

    __slots__ = ("_left", "_line", "_state", "_trailer_bytes", "done", "trailers")

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0
        self._line = b""
        self._trailer_bytes = 0
        self.trailers: list[bytes] = []
        self.done = False

    def feed(self, data: bytes, out: list[bytes], at: int = 0, *, most: int = sys.maxsize) -> int:
        """How far into `data` the body reached, from `at`, or its next `most` pieces did."""
        size, full = len(data), len(out) + most
        while at < size and not self.done and len(out) < full:
            if self._state == _DATA:
                piece = data[at : at + self._left]
                out.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _DATA_END
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._line += data[at:]
                self._check_size()
                return size
            line = self._line + data[at:end]
            self._line = b""
            at = end + 1
            # To read a long extension takes as much as many pieces do.
            full -= len(line) // 32
            self._take(line)
        return at

    def _check_size(self) -> None:
        if self._state == _DATA_END:
            if self._line != b"\r":
                raise Malformed("chunk end")
            return
        if self._state == _SIZE:
            limit = MAX_CHUNK_LINE_BYTES
        else:
            limit = MAX_TRAILER_BYTES - self._trailer_bytes
        # Its last byte may be the CR of the line's end.
        if len(self._line) > limit + 1:
            raise Malformed("chunk line")

    def _take(self, line: bytes) -> None:
        # "\n" ended it: the "\r" before it must be there, and be the only one.
        if line[-1:] != b"\r":
            raise Malformed("bare LF")
        line = line[:-1]
        if self._state == _SIZE:
            match = _CHUNK_LINE.fullmatch(line) if len(line) <= MAX_CHUNK_LINE_BYTES else None
            if match is None:
                raise Malformed("chunk size")
            self._left = int(match[1], 16)
            self._state = _DATA if self._left else _TRAILER
        elif self._state == _DATA_END:
            if line:
                raise Malformed("chunk end")
            self._state = _SIZE
        elif not line:
            self.done = True
        else:
            self._trailer_bytes += len(line) + 2
            if self._trailer_bytes > MAX_TRAILER_BYTES or line.translate(None, FIELD_BYTES):
                raise Malformed("trailer")
            name, colon, _ = line.partition(b":")
            check_name(name if colon else b"")
            self.trailers.append(line)
