"""May this call pass?  The one function that every door asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gateway.access.policies import Shadowed
from gateway.access.routes import Route
from gateway.access.upstreams import Limit
from gateway.model import Call, CredentialKind, LimitState, Place, Principal, Reason

if TYPE_CHECKING:
    from gateway.access.snapshot import Snapshot


class Identifier(Protocol):
    async def identify(self, call: Call, accept: frozenset[CredentialKind]) -> Principal | Reason:
        """Who calls: the credential verified, its expiry and revocation asked.

        NO_CREDENTIAL where none came, or none of a kind in `accept`.
        """


class Limiter(Protocol):
    async def take(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
    ) -> LimitState:
        """Where the caller stands; `wait_s` is 0.0 once every limit was charged by one.

        All are asked before any is charged.  `limits` is never empty.
        """


class CsrfCheck(Protocol):
    def csrf_valid(self, call: Call) -> bool:
        """Whether `X-CSRF-Token` belongs to the session cookie; the session is not looked up."""


@dataclass(slots=True)
class Decision:
    """The answer, and all that the doors record of it.

    `reason` is a member of Reason or a rule's own text.  `refusal` is the Reason that the
    table of answers knows; None when the call is allowed, or refused for a rule's own
    reason (always 403).  With `conceal` the client is answered as for an unknown route.
    """

    allowed: bool
    reason: str
    refusal: Reason | None = None
    route: Route | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    principal: Principal | None = None
    policy: str | None = None
    rule: str | None = None
    place: Place | None = None
    retry_after_s: float = 0.0
    conceal: bool = False
    allow: tuple[str, ...] = ()
    """The methods for `Allow`, when the reason is METHOD_NOT_ALLOWED."""
    target: str = ""
    """Path and query to send to the upstream, after the route's rewrite."""
    headers: tuple[tuple[str, str], ...] = ()
    """Fields that the deciding rule adds for the upstream."""
    limit: LimitState | None = None
    """Where the caller stands; None where no limit was asked."""
    shadowed: tuple[Shadowed, ...] = ()
    """What rules in shadow would have decided otherwise."""
    max_age_s: int | None = None
    """With INSUFFICIENT_USER_AUTHENTICATION: how fresh a sign-in must be (RFC 9470)."""
    amr: tuple[str, ...] = ()
    """With INSUFFICIENT_USER_AUTHENTICATION: the methods that are asked for."""


class Gate:
    def __init__(
        self, identifier: Identifier, limiter: Limiter, csrf: CsrfCheck | None = None
    ) -> None:
        self._identifier = identifier
        self._limiter = limiter
        self._csrf = csrf

    async def decide(self, call: Call, snapshot: Snapshot) -> Decision:
        raise NotImplementedError
