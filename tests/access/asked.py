"""Those whom a decision asks who calls and what is left: they remember what they were asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.access.conditions.context import NO_RESOURCE, RequestedResource
from gateway.access.definitions import Limit
from gateway.access.simulation import SlowAuthenticator, SlowLimiter, completed
from gateway.limit_state import LimitState
from gateway.model import OWN_ISSUERS, Call, CredentialKind, Principal, Reason


class Limits(SlowLimiter):
    """Remembers what was asked; the waits are those of one asking after another."""

    def __init__(self, *waits_s: float) -> None:
        self.waits_s = list(waits_s)
        self.asked: list[tuple[Any, ...]] = []
        self.requested: list[RequestedResource] = []

    async def take(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> LimitState:
        names = "+".join(limit.name for limit in limits)
        whom = principal.subject if principal else None
        self.requested.append(requested)
        self.asked.append(
            (names, call.path, whom, dict(requested.params), dict(requested.resource))
        )
        return LimitState(self.waits_s.pop(0) if self.waits_s else 0.0, names, (), ())


class Callers(SlowAuthenticator):
    """Knows who calls, and remembers what it was asked."""

    def __init__(self, caller: Principal | Reason) -> None:
        self.caller = caller
        self.asked: list[tuple[str, frozenset[CredentialKind], frozenset[str]]] = []

    async def authenticate(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason:
        self.asked.append((call.path, accept, issuers))
        return self.caller


class KnownCallers(Callers):
    """Has every caller in memory."""

    def authenticate_now(  # type: ignore[override]
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason:
        return completed(self.authenticate(call, accept, issuers))


class KnownLimits(Limits):
    """Has every counter in memory."""

    def take_now(  # type: ignore[override]
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> LimitState:
        return completed(self.take(limits, call, principal, requested))
