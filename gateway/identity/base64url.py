"""Base64url without padding (RFC 7515 section 2), in its one canonical spelling.

Law: what decodes encodes to the same text again, so that no value has two spellings.
"""

from __future__ import annotations

import base64
import binascii

_STANDARD = bytes.maketrans(b"-_+/=", b"+/???")
"""To the alphabet that `binascii` reads; what it reads and is none of ours becomes unreadable."""
_PADDING = (b"", b"", b"==", b"=")
"""By the characters over."""

# RFC 4648 section 3.5: the bits of the last character that do not count are zero.
_LAST_OF_TWO = frozenset(b"AQgw")
_LAST_OF_THREE = frozenset(b"AEIMQUYcgkosw048")


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes | None:
    """None for any other spelling: padding, white space, `+`, `/`, stray bits."""
    over = len(text) % 4
    if over == 1:
        return None
    try:
        spelled = text.encode("ascii")
        if over == 2 and spelled[-1] not in _LAST_OF_TWO:
            return None
        if over == 3 and spelled[-1] not in _LAST_OF_THREE:
            return None
        return binascii.a2b_base64(spelled.translate(_STANDARD) + _PADDING[over], strict_mode=True)
    except ValueError:
        # Not ASCII, or (binascii.Error is one too) a sign of no alphabet.
        return None
