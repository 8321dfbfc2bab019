"""Keys for one purpose each, out of the installation's one secret.

Law: no two purposes share a key, so what is signed or derived for one is worth nothing to
another (a device cookie is no CAPTCHA, a link is no access token).
"""

from __future__ import annotations

from enum import StrEnum

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class KeyPurpose(StrEnum):
    MAIL_TOKEN = "mail token"  # noqa: S105 (a purpose, not a secret)
    DEVICE = "device cookie"
    CAPTCHA = "captcha"
    CSRF = "csrf token"
    SESSION = "cookie session"
    SESSION_COOKIE = "session cookie"
    HAND_OVER = "hand-over"
    MFA = "mfa token"
    RETURN_TO = "return to"
    CONSOLE = "console"
    PASSKEY_CHALLENGE = "passkey challenge"
    PROVIDER = "provider round trip"
    ID_TOKEN = "provider session"  # noqa: S105 (a purpose, not a secret)
    AUDIT_PSEUDONYM = "audit address"
    AUDIT_CHAIN = "audit chain"
    BACKUP = "backup"
    ASSERTION = "assertions"
    SETTINGS = "shared settings"
    SEAL_SIGNING_KEYS = "signing keys: seal"
    FINGERPRINT = "signing keys: fingerprint"


def derived_key(secret: bytes, purpose: KeyPurpose) -> bytes:
    """32 bytes (RFC 5869; no salt is needed, as the secret is random throughout, section 3.1)."""
    return HKDF(
        algorithm=SHA256(), length=32, salt=None, info=f"authgate {purpose}, 1".encode()
    ).derive(secret)
