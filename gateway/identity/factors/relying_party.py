"""For whom passkeys are made: the relying party (WebAuthn, section 5.1.2).

Law: a passkey counts at the host of the public URL alone, and only the pages of that origin may ask
for it.  Hosts that share a sign-in (`session: {domain: …}`) have their people sign in at the public
host: an RP id of the whole domain would let the page of any application below it ask its visitor
for the passkey, for no gain.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class RelyingParty:
    id: str
    """The RP id: a domain.  Whoever changes it loses every passkey."""
    origins: tuple[str, ...]
    """Those whose pages may ask for passkeys."""


def relying_party(public_url: str) -> RelyingParty | None:
    """None where the public URL names an IP address: no browser makes passkeys for one.

    This machine has a name besides: with `http://127.0.0.1:8080` passkeys work at
    `http://localhost:8080`.
    """
    parts = urlsplit(public_url)
    host = (parts.hostname or "").removesuffix(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return RelyingParty(host, (public_url,)) if host else None
    if not address.is_loopback:
        return None
    port = "" if parts.port is None else f":{parts.port}"
    return RelyingParty("localhost", (f"{parts.scheme}://localhost{port}",))
