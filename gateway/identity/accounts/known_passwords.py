"""Passwords that are known to the world: whether one stands in the list that was imported.

The file (docs/decisions/0013) holds 48 bits of each hash, sorted: those of one beginning (16 bits)
stand together, four bytes each.  Law: nobody is asked but this file, it is read where it lies
(`mmap`: all workers share its pages), and one that is replaced is taken up at the next question.
Of passwords that are not in the list a known share is taken for one that is: `count` / 2^48.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import unicodedata
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from gateway.identity.accounts.md4 import md4

log = structlog.get_logger(__name__)

MAGIC = b"authgate known passwords 1\n"
HEAD_BYTES = 4_096
"""The magic, and then `ListFacts` as JSON, filled up with spaces."""
BEGINNINGS = 1 << 16
INDEX_BYTES = 8 * (BEGINNINGS + 1)
"""Where those of each beginning begin, counted in entries: 64 bits, little-endian."""
DATA_AT = HEAD_BYTES + INDEX_BYTES
ENTRY_BYTES = 4
KEPT_BYTES = 2 + ENTRY_BYTES
"""Of each hash: its beginning, and the entry."""


@dataclass(frozen=True, slots=True)
class ListFacts:
    hash: str
    """`sha1` or `ntlm`."""
    count: int
    """Different hashes, as far as 48 bits tell them apart."""
    imported_at: int

    @property
    def false_positive_rate(self) -> float:
        """Of a password that is not in the list."""
        return self.count / (1 << 8 * KEPT_BYTES)


class BadList(Exception):
    """The file is no list of known passwords, or not all of it."""


class KnownList:
    """One file, open."""

    def __init__(self, path: Path) -> None:
        """Raises OSError and BadList."""
        with path.open("rb") as file:
            self.facts = read_facts(file.read(HEAD_BYTES))
            size = os.fstat(file.fileno()).st_size
            if size != DATA_AT + ENTRY_BYTES * self.facts.count:
                raise BadList(f"{path} is {size:,} bytes long, and should be of another length")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._digest = DIGESTS[self.facts.hash]

    def holds(self, password: str) -> bool:
        """As it was typed, or in the form in which it is stored here (NFKC)."""
        forms = {password, unicodedata.normalize("NFKC", password)}
        return any(self.holds_hash(self._digest(form)) for form in forms)

    def holds_hash(self, digest: bytes) -> bool:
        at = HEAD_BYTES + 8 * int.from_bytes(digest[:2], "big")
        begin, end = struct.unpack_from("<2Q", self._map, at)
        wanted = digest[2:KEPT_BYTES]
        place = bisect_left(range(begin, end), wanted, key=self._entry) + begin
        return place < end and self._entry(place) == wanted

    def _entry(self, place: int) -> bytes:
        at = DATA_AT + ENTRY_BYTES * place
        return self._map[at : at + ENTRY_BYTES]


class KnownPasswords:
    """The list of this installation, whichever lies there now; none is no mistake."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int, int] | None = None
        self._list: KnownList | None = None

    def hold(self, password: str) -> bool:
        """Reads a few pages of the file: for a thread."""
        current = self.current()
        return current is not None and current.holds(password)

    def current(self) -> KnownList | None:
        """None where there is none, or none that can be read: then it is logged, once."""
        try:
            stat = self._path.stat()
        except OSError:
            self._seen = self._list = None
            return None
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
        if seen != self._seen:
            self._list = self._opened()
            self._seen = seen
        return self._list

    def _opened(self) -> KnownList | None:
        try:
            opened = KnownList(self._path)
        except (OSError, BadList, ValueError) as error:
            log.error("known-passwords-unreadable", path=str(self._path), error=str(error))
            return None
        log.info("known-passwords", count=opened.facts.count, hash=opened.facts.hash)
        return opened


def read_facts(head: bytes) -> ListFacts:
    """Raises BadList."""
    try:
        if not head.startswith(MAGIC):
            raise ValueError
        fields: Any = json.loads(head.removeprefix(MAGIC))
        facts = ListFacts(str(fields["hash"]), int(fields["count"]), int(fields["imported_at"]))
        if facts.hash not in DIGESTS:
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise BadList("this is no list that `gateway passwords import` has written") from error
    return facts


def written_facts(facts: ListFacts) -> bytes:
    return (MAGIC + json.dumps(asdict(facts)).encode()).ljust(HEAD_BYTES)


def _sha1(password: str) -> bytes:
    return hashlib.sha1(password.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()


def _ntlm(password: str) -> bytes:
    return md4(password.encode("utf-16-le", "surrogatepass"))


DIGESTS: dict[str, Callable[[str], bytes]] = {"sha1": _sha1, "ntlm": _ntlm}
"""By which the lists of the world are hashed."""
