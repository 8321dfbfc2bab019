"""What a 401 `no_credential` says of a credential that came and did not count.

Law: what came is named by its kind, in words of a list; no byte of it is in the answer.
"""

from __future__ import annotations

from collections.abc import Set

from gateway.identity.sign_in.session_cookies import COOKIE
from gateway.model import Call, Credential, CredentialKind

_COOKIE = f"{COOKIE}=".encode()
_SCHEMES = {
    b"bearer": "Bearer",
    b"basic": "Basic",
    b"digest": "Digest",
    b"negotiate": "Negotiate",
    b"token": "token",
    b"aws4-hmac-sha256": "AWS4-HMAC-SHA256",
}
_CREDENTIALS = (b"authorization", b"cookie")
_LENGTHS = tuple(map(len, _CREDENTIALS))
_BEARER_KINDS = {
    CredentialKind.BEARER: "an access token",
    CredentialKind.API_KEY: "an API key",
}


def uncounted(call: Call, accept: Set[CredentialKind]) -> str | None:
    """The detail of the refusal; None where nothing came that could have counted elsewhere.

    `accept` are the kinds that count for this call.
    """
    pairs = list(call.headers)
    if not any(len(name) in _LENGTHS and name.lower() in _CREDENTIALS for name, _ in pairs):
        return None
    fields: dict[bytes, bytes] = {}
    cookie = False
    for name, value in pairs:
        lower = name.lower()
        fields.setdefault(lower, value)
        cookie = cookie or (lower == b"cookie" and _COOKIE in value)
    told = []
    if b"authorization" in fields:
        told.append(_of_authorization(call, fields[b"authorization"], accept))
    if cookie:
        told.append(_of_cookie(fields, accept))
    if not told:
        return None
    return f"This call needs a credential, and what came does not count: {'; '.join(told)}."


def _of_authorization(call: Call, field: bytes, accept: Set[CredentialKind]) -> str:
    scheme = _SCHEMES.get(field.partition(b" ")[0].lower())
    taken = [
        name
        for name, kinds in (("Bearer", _BEARER_KINDS.keys()), ("Basic", {CredentialKind.BASIC}))
        if accept & kinds
    ]
    presented = call.presented[0] if call.presented is not None else call.credential
    if scheme in taken and isinstance(presented, Credential) and presented.kind in _BEARER_KINDS:
        return f"{_BEARER_KINDS[presented.kind]} is not taken here"
    if scheme in taken:
        return "the Authorization cannot be read"
    if not taken:
        return "no Authorization is taken here"
    came = f"the scheme {scheme}" if scheme is not None else "another scheme"
    return f"its Authorization is of {came}, and {' or '.join(taken)} is taken here"


def _of_cookie(fields: dict[bytes, bytes], accept: Set[CredentialKind]) -> str:
    if CredentialKind.COOKIE not in accept:
        return "the session cookie is not taken here"
    if b"sec-fetch-site" in fields or b"origin" in fields:
        return "the session cookie came with a call of a page of another origin"
    if b"x-csrf-token" in fields:
        return "the X-CSRF-Token beside the session cookie is not that of its session"
    return (
        "nothing shows which page sent the session cookie"
        " (Sec-Fetch-Site, Origin or X-CSRF-Token would)"
    )
