"""What an issuer may call a user or a session, and how they are named here.

Law: one rule for tokens and for what ends them: whatever a token may be named by can be ended.
"""

from __future__ import annotations

import re

EXTERNAL_ID_MAX = 255

_EXTERNAL_ID = re.compile(rf"[\x21-\x7e]{{1,{EXTERNAL_ID_MAX}}}")
"""Visible ASCII letters alone: they go into header lines and logs."""


def is_external_id(value: object) -> bool:
    return isinstance(value, str) and _EXTERNAL_ID.fullmatch(value) is not None


def external_name(issuer_name: str, external_id: str) -> str:
    """How a subject or a session of another issuer is named here."""
    return f"{issuer_name}:{external_id}"
