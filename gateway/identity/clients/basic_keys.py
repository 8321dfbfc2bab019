"""API keys for native clients: `Authorization: Basic`, any user, the key as the password.

git, `docker login`, WebDAV and package clients ask their user for a name and a password and
know no other way.  What the name says is not looked at: a key says whose it is.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Protocol

from gateway.model import Call, Credential, CredentialKind, Principal, Reason


class KeyAuthenticator(Protocol):
    """`key_authenticator.ApiKeyAuthenticator` meets it."""

    async def authenticate(self, credential: Credential, call: Call) -> Principal | Reason: ...


class BasicKeyAuthenticator:
    """Meets `tokens.authenticator.CredentialAuthenticator` for `CredentialKind.BASIC`."""

    def __init__(self, keys: KeyAuthenticator) -> None:
        self._keys = keys

    async def authenticate(self, credential: Credential, call: Call) -> Principal | Reason:
        """TOKEN_MALFORMED for what is no pair of name and password, or no key as password."""
        password = password_of(credential.text)
        if password is None:
            return Reason.TOKEN_MALFORMED
        key = Credential(CredentialKind.API_KEY, password)
        return await self._keys.authenticate(key, call)


def password_of(token: str) -> str | None:
    """The password of Basic credentials (RFC 7617 section 2); None where they cannot be read.

    Base64 with its padding, UTF-8 without control characters.  The first colon ends the user-id,
    which cannot hold one; a password may.
    """
    try:
        pair = b64decode(token, validate=True).decode("utf-8")
    except ValueError:
        return None
    _, colon, password = pair.partition(":")
    if not colon or any(char < " " or char == "\x7f" for char in pair):
        return None
    return password
