"""Where the lines of the access log go: standard output, or a file that others may move away.

Law: nothing waits for a reader.  What a pipe does not take in time is lost, and counted by whoever
asked; a line is written whole or not at all, also where several workers write to one pipe.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

STANDARD_OUTPUT = 1
_FILE_PIECE_BYTES = 65_536


class LinesLost(Exception):
    """`lost` lines were not written, and why."""

    def __init__(self, lost: int, why: str) -> None:
        super().__init__(why)
        self.lost = lost
        self.why = why


class LineSink:
    """Appends to `path`, or to standard output.  A file that was moved or deleted (`logrotate`) is
    begun anew with the next lines."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._descriptor = STANDARD_OUTPUT if path is None else -1

    def write(self, lines: Sequence[str], patience_s: float) -> None:
        """Raises LinesLost.  It may take that long, so it is called in a thread."""
        left = len(lines)
        try:
            descriptor = self._opened()
            piece_bytes = _piece_bytes(descriptor)
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            for piece, count in _pieces(lines, piece_bytes):
                if not ready.poll(patience_s * 1000):
                    raise LinesLost(left, "its reader does not read")
                _write_whole(descriptor, piece)
                left -= count
        except OSError as error:
            raise LinesLost(left, error.strerror or type(error).__name__) from error

    def close(self) -> None:
        if self._path is not None and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _opened(self) -> int:
        path = self._path
        if path is None:
            return self._descriptor
        if self._descriptor >= 0 and _is_at(path, self._descriptor):
            return self._descriptor
        self.close()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        return self._descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def _piece_bytes(descriptor: int) -> int:
    """A file takes what is appended as a whole; of a pipe POSIX promises it of so much."""
    regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    return _FILE_PIECE_BYTES if regular else select.PIPE_BUF


def _pieces(lines: Sequence[str], piece_bytes: int) -> Iterator[tuple[bytes, int]]:
    """The lines, as many together as a piece takes, and how many these are."""
    piece, count = b"", 0
    for line in lines:
        data = line.encode("ascii", "backslashreplace") + b"\n"
        if piece and len(piece) + len(data) > piece_bytes:
            yield piece, count
            piece, count = b"", 0
        piece += data
        count += 1
    if piece:
        yield piece, count


def _write_whole(descriptor: int, piece: bytes) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]
