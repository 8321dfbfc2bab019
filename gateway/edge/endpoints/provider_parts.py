"""What a worker has for sign-in by a provider alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.access.providers import Provider
from gateway.identity.providers.client import ProviderClient
from gateway.identity.providers.ended_sessions import EndedSessions
from gateway.identity.providers.id_tokens import ProviderKeys
from gateway.identity.providers.provider_sessions import ProviderSessions
from gateway.identity.providers.round_trips import RoundTrips


@dataclass(frozen=True, slots=True)
class ProviderParts:
    providers: Callable[[], Mapping[str, Provider]]
    """Those of the running configuration."""
    client: ProviderClient
    keys: ProviderKeys
    trips: RoundTrips
    sessions: ProviderSessions
    ended_sessions: EndedSessions
    count_sign_in: Callable[[str, str], None]
    """Counts what came of a sign-in, by provider and outcome."""
    count_report: Callable[[str, str], None]
    """Counts what a provider told of an end, by its outcome."""
