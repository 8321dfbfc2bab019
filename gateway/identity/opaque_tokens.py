"""Tokens of 256 random bits, in base64url: refresh tokens, mailed links, client secrets.

Law: a store keeps the hash alone.  For what is random throughout a plain SHA-256 is one-way
enough (ASVS 6.5.2).
"""

from __future__ import annotations

import hashlib
import re

from gateway.identity.base64url import encoded

_FORM = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def well_formed(text: str) -> bool:
    """Whether the text can be such a token; no store is asked about others."""
    return _FORM.fullmatch(text) is not None


def hash_token(text: str) -> str:
    """What a store keeps of a token."""
    return encoded(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
