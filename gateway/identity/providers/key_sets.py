"""The keys of providers' ID tokens, fetched when somebody signs in.

Law: as for issuers (`issuers.key_sets`): a provider is asked once in a while however many sign in,
and nobody waits long.  Nothing is fetched while nobody signs in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.access.issuers import Issuer
from gateway.access.providers import Provider
from gateway.identity.issuers.jwk_set import IssuerKey
from gateway.identity.issuers.key_sets import Documents, KeySet, KeySetDependencies
from gateway.model import Clock, Reason


class ProviderKeySets:
    """Meets `id_tokens.ProviderKeys`.  One a worker."""

    def __init__(
        self, documents: Documents, clock: Clock, fetched: Callable[[str, str], None]
    ) -> None:
        self._dependencies = KeySetDependencies(documents, None, clock, fetched=fetched)
        self._steady = clock.steady
        self._sets: dict[str, KeySet] = {}

    async def find(self, issuer: Issuer, kid: str, jwks_uri: str) -> IssuerKey | Reason:
        keys = self._keys_of(replace(issuer, jwks_uri=jwks_uri))
        if self._steady() >= keys.due_at:
            keys.refresh()
            # A key that was taken back must not count until somebody asks for one that is new.
            await keys.ask()
        return await keys.find(kid)

    def adopt(self, providers: Mapping[str, Provider]) -> None:
        """Forgets the keys of those that the configuration does not name any more."""
        for name in self._sets.keys() - providers.keys():
            self._sets.pop(name).stop()

    async def close(self) -> None:
        for keys in self._sets.values():
            await keys.close()

    def _keys_of(self, issuer: Issuer) -> KeySet:
        known = self._sets.get(issuer.name)
        if known is None or not known.adopt(issuer):
            if known is not None:
                known.stop()
            known = self._sets[issuer.name] = KeySet(issuer, self._dependencies)
        return known
