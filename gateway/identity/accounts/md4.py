"""MD4 (RFC 1320), for no other end than to look a password up by its NTLM hash.

OpenSSL 3 gives it only where its legacy provider is loaded, so neither `hashlib` nor
`cryptography` can be asked.  Nothing is protected by it.
"""

from __future__ import annotations

import struct

_MASK = 0xFFFFFFFF
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_ROUNDS = (
    (0, tuple(range(16)), (3, 7, 11, 19)),
    (0x5A827999, (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), (3, 5, 9, 13)),
    (0x6ED9EBA1, (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15), (3, 9, 11, 15)),
)
"""Of each round (section 3.4): what is added, the order of the words, and how far is rotated."""


def md4(data: bytes) -> bytes:
    """16 bytes."""
    padded = data + b"\x80" + bytes((55 - len(data)) % 64) + struct.pack("<Q", len(data) * 8)
    state = _START
    for start in range(0, len(padded), 64):
        state = _compressed(state, struct.unpack("<16I", padded[start : start + 64]))
    return struct.pack("<4I", *state)


def _compressed(
    state: tuple[int, int, int, int], words: tuple[int, ...]
) -> tuple[int, int, int, int]:
    a, b, c, d = state
    for number, (added, order, shifts) in enumerate(_ROUNDS):
        for step, at in enumerate(order):
            if number == 0:
                mixed = (b & c) | (~b & d)
            elif number == 1:
                mixed = (b & c) | (b & d) | (c & d)
            else:
                mixed = b ^ c ^ d
            summed = (a + mixed + words[at] + added) & _MASK
            shift = shifts[step % 4]
            a, b, c, d = d, ((summed << shift) | (summed >> (32 - shift))) & _MASK, b, c
    return (
        (state[0] + a) & _MASK,
        (state[1] + b) & _MASK,
        (state[2] + c) & _MASK,
        (state[3] + d) & _MASK,
    )
