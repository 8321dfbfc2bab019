"""A provider of a configuration, for tests of what is judged by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.access.issuers import Issuer
from gateway.access.providers import Provider
from gateway.model import Reason
from tests.config.provider_texts import provider as provider_of
from tests.identity.issuers import event_provider

CLIENT = "gateway"
ISSUER = event_provider.ISSUER


def provider(keys: str = "", **changed: Any) -> Provider:
    """Of `event_provider.ISSUER`; `keys` are more lines of its block."""
    text = f"issuer: {ISSUER}\nclient_id: {CLIENT}\nclient_secret: {{secret: s}}\n{keys}"
    return replace(provider_of(text), **changed)


class Keys:
    """Meets `id_tokens.ProviderKeys`."""

    def __init__(self, signer: event_provider.Provider) -> None:
        self.signer = signer

    async def find(
        self, issuer: Issuer, kid: str, jwks_uri: str
    ) -> event_provider.PublishedKey | Reason:
        del jwks_uri
        return await self.signer.find(issuer, kid)
