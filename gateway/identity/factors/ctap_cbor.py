"""The form of CBOR that authenticators write (CTAP 2.1, section 8, over RFC 8949), and no other.

Law: what has another form is decoded by nobody.  A general reader of CBOR follows tags: two
hundred bytes of shared references (tag 29) stand for a value that takes hours to write out again.
So there are no tags here, no lengths that are open, and few levels.
"""

from __future__ import annotations

_DEEPEST = 8
"""CTAP allows four; the statement of an attestation holds lists of certificates besides."""
_ITEMS_MAX = 1_000

_HEADER_BYTES = 37
"""Of authenticator data: hash of the RP id, flags, counter (WebAuthn, section 6.1)."""
_FLAGS_AT = 32
_HAS_CREDENTIAL, _HAS_EXTENSIONS = 0x40, 0x80
_AAGUID_BYTES, _LENGTH_BYTES = 16, 2


def is_one_item(data: bytes) -> bool:
    """Whether this is one item and nothing besides."""
    return _Scan(data).end_of_item(0, _DEEPEST) == len(data)


def is_authenticator_data(data: bytes) -> bool:
    """Whether what follows the fixed part is what the flags announce, to the last byte."""
    if len(data) < _HEADER_BYTES:
        return False
    flags, at, scan = data[_FLAGS_AT], _HEADER_BYTES, _Scan(data)
    if flags & _HAS_CREDENTIAL:
        at += _AAGUID_BYTES
        at += _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        at = scan.end_of_item(at, _DEEPEST)
    if at >= 0 and flags & _HAS_EXTENSIONS:
        at = scan.end_of_item(at, _DEEPEST)
    return at == len(data)


class _Scan:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._items = 0

    def end_of_item(self, at: int, levels: int) -> int:
        """Where the item that begins at `at` ends; -1 where it has another form."""
        self._items += 1
        if not 0 <= at < len(self._data) or levels == 0 or self._items > _ITEMS_MAX:
            return -1
        kind, small = self._data[at] >> 5, self._data[at] & 0x1F
        at += 1
        value = small
        if small >= 24:
            if small > 27:  # reserved, or an open length
                return -1
            size = 1 << (small - 24)
            value = int.from_bytes(self._data[at : at + size], "big")
            at += size
        if kind in (2, 3):  # bytes, text
            at += value
        elif kind in (4, 5):  # a list, a map
            for _ in range(value * (kind - 3)):
                at = self.end_of_item(at, levels - 1)
                if at < 0:
                    return -1
        elif kind == 6:  # a tag
            return -1
        return at if at <= len(self._data) else -1
