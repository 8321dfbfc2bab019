"""A list of hashes, as Have I Been Pwned gives it out, made the file of `known_passwords`.

Law: memory does not grow with the list.  What comes sorted, as such lists do, is written as it is
read; what does not is sorted in runs on disk, and merged.  The file is put in place once it is
whole.
"""

from __future__ import annotations

import gzip
import heapq
import re
import struct
import tempfile
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol

from gateway.atomic_file import atomic_file
from gateway.identity.accounts.known_passwords import (
    BEGINNINGS,
    DATA_AT,
    INDEX_BYTES,
    KEPT_BYTES,
    ListFacts,
    written_facts,
)

CHUNK_BYTES = 8 << 20
"""Of the list, read at once: some 200,000 hashes."""
RUNS_MAX = 512
"""Runs that are merged at once, each an open file: 100 million hashes in no order."""
_DIGITS = 2 * KEPT_BYTES
_LENGTHS = {40: "sha1", 32: "ntlm"}
_WORDS = {"sha1": "hash of SHA-1", "ntlm": "hash of NTLM"}
_LONGEST_LINE = 80
_GZIP = b"\x1f\x8b"
MERGED_AT_ONCE = 1 << 16
"""Of what is kept of each hash, written at once."""


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class BadImport(Exception):
    """What stands in the list cannot be read; the text says in which line."""


def import_list(
    source: BinaryIO,
    target: Path,
    now: int,
    progress: Callable[[int], None] = lambda _read: None,
) -> ListFacts:
    """Replaces `target` by the list of `source`, plain or gzipped: lines of `HASH` or
    `HASH:COUNT`, in SHA-1 or NTLM, in any order.  `progress` is told the bytes read.

    Raises BadImport and OSError, and then `target` stays as it was.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=target.parent)))
        lines = _Lines(_plain(source), progress)
        runs = _Runs(folder)
        try:
            for chunk in lines.chunks():
                runs.add(sorted(chunk))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadImport("it is gzipped, and damaged or cut short") from error
        if lines.hash is None:
            raise BadImport("it holds no hash")
        file = stack.enter_context(atomic_file(target))
        writer = _Writer(file)
        for entries in runs.sorted(stack):
            writer.write(entries)
        facts = ListFacts(lines.hash, writer.count, now)
        writer.finish(facts)
        return facts


class _Lines:
    """The hashes of a list: twelve digits of each, in upper case."""

    def __init__(self, source: Readable, progress: Callable[[int], None]) -> None:
        self._source = source
        self._progress = progress
        self._line = 0
        self._pattern: re.Pattern[bytes] | None = None
        self.hash: str | None = None

    def chunks(self) -> Iterator[list[bytes]]:
        rest, first = b"", True
        while True:
            read = self._source.read(CHUNK_BYTES)
            self._progress(len(read))
            block = rest + read
            if first:
                block, first = block.removeprefix(b"\xef\xbb\xbf"), False
            if not read:
                if block:
                    yield self._hashes(block)
                return
            whole, newline, rest = block.rpartition(b"\n")
            if not newline and len(block) > _LONGEST_LINE:
                self._refuse(block)
            if newline:
                yield self._hashes(whole)

    def _hashes(self, block: bytes) -> list[bytes]:
        """Of whole lines.  One that is none of a list is a mistake, and its number is said."""
        lines = block.upper()
        if self._pattern is None:
            if not lines.strip():
                self._line += lines.count(b"\n") + 1
                return []
            self._pattern = self._pattern_of(lines)
        hashes = self._pattern.findall(lines)
        expected = sum(1 for line in lines.split(b"\n") if line.strip())
        if len(hashes) != expected:
            self._refuse(lines)
        self._line += lines.count(b"\n") + 1
        return hashes

    def _pattern_of(self, lines: bytes) -> re.Pattern[bytes]:
        """By the first line: a list is of one kind."""
        words = lines.split(None, 1)
        digits = len(words[0].partition(b":")[0]) if words else 0
        if digits not in _LENGTHS:
            self._refuse(lines)
        self.hash = _LENGTHS[digits]
        return re.compile(
            rb"^([0-9A-F]{%d})[0-9A-F]{%d}(?::[0-9]+)?[ \t\r]*$" % (_DIGITS, digits - _DIGITS), re.M
        )

    def _refuse(self, block: bytes) -> None:
        pattern = self._pattern or re.compile(rb"^(?:[0-9A-F]{40}|[0-9A-F]{32})(?::[0-9]+)?\s*$")
        for number, line in enumerate(block.upper().split(b"\n"), self._line + 1):
            if line.strip() and pattern.match(line) is None:
                kind = _WORDS.get(self.hash or "", "hash of SHA-1 or NTLM")
                raise BadImport(f"line {number:,} is no {kind}, bare or as HASH:COUNT")
        raise BadImport("it is no list of hashes")


class _Runs:
    """Sorted runs on disk; a list that comes sorted is one run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: list[Path] = []
        self._last = b""

    def add(self, hashes: Sequence[bytes]) -> None:
        if not hashes:
            return
        if not self._paths or hashes[0] < self._last:
            if len(self._paths) >= RUNS_MAX:
                raise BadImport("it is too long to be in no order: sort it (`sort FILE`) first")
            self._paths.append(self._folder / str(len(self._paths)))
        self._last = hashes[-1]
        with self._paths[-1].open("ab") as file:
            file.write(bytes.fromhex(b"".join(hashes).decode()))

    def sorted(self, stack: ExitStack) -> Iterator[Sequence[bytes]]:
        """What is kept of each hash, in order, in pieces."""
        readers = [_entries(stack.enter_context(path.open("rb"))) for path in self._paths]
        if len(readers) == 1:
            yield from readers[0]
            return
        merged = heapq.merge(*map(_each, readers))
        while piece := list(islice(merged, MERGED_AT_ONCE)):
            yield piece


class _Writer:
    """Writes entries that come in order, each once, and where those of a beginning are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._file.seek(DATA_AT)
        self._counts = [0] * BEGINNINGS
        self._last = b""
        self.count = 0

    def write(self, entries: Sequence[bytes]) -> None:
        unique = list(dict.fromkeys(entries))
        if unique and unique[0] == self._last:
            del unique[0]
        if not unique:
            return
        self._last = unique[-1]
        self.count += len(unique)
        self._file.write(b"".join([entry[2:] for entry in unique]))
        begin = 0
        while begin < len(unique):
            beginning = int.from_bytes(unique[begin][:2], "big")
            following = (beginning + 1).to_bytes(3, "big")[1:]
            end = len(unique)
            if beginning + 1 < BEGINNINGS:
                end = bisect_left(unique, following, begin)
            self._counts[beginning] += end - begin
            begin = end

    def finish(self, facts: ListFacts) -> None:
        places, place = [0], 0
        for count in self._counts:
            place += count
            places.append(place)
        index = struct.pack(f"<{BEGINNINGS + 1}Q", *places)
        assert len(index) == INDEX_BYTES
        self._file.seek(0)
        self._file.write(written_facts(facts) + index)


def _entries(file: BinaryIO) -> Iterator[list[bytes]]:
    """Those of a run, in pieces."""
    while piece := file.read(KEPT_BYTES * MERGED_AT_ONCE):
        yield [piece[at : at + KEPT_BYTES] for at in range(0, len(piece), KEPT_BYTES)]


def _each(pieces: Iterator[list[bytes]]) -> Iterator[bytes]:
    for piece in pieces:
        yield from piece


def _plain(source: BinaryIO) -> Readable:
    """The list itself, whether or not it is gzipped: its first two bytes say."""
    peeked = source.peek(2)[:2] if hasattr(source, "peek") else b""
    return source if peeked != _GZIP else gzip.GzipFile(fileobj=source)
