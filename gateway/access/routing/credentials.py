"""Which credential counts, of those that a call presents (docs/policies/routes.md).

The session cookie comes by itself, an `Authorization` was put there: so that one is judged
wherever the route accepts its kind, and the cookie beside it is not.  A field of another kind
is the backend's own business: it is not looked at, and the cookie counts.
"""

from __future__ import annotations

from gateway.model import Call, Credential, CredentialKind, Reason


def select_credential(call: Call, accept: frozenset[CredentialKind]) -> Credential | Reason | None:
    """What the call is judged by where these kinds are accepted; None where nothing counts.

    A Reason where what counts cannot be read.  Whoever takes the answer for `Call.credential`
    has CSRF checked by it: the cookie never counts without.
    """
    if call.presented is None:
        credential = call.credential
        if isinstance(credential, Credential) and credential.kind not in accept:
            return None
        return credential
    authorization, cookie = call.presented
    if authorization.kind in accept:
        return authorization
    return cookie if CredentialKind.COOKIE in accept else None
