"""Counts and logs what rules, policies and whole configurations in shadow would have decided.

A rule in shadow is judged with the others, and only counted here.  A whole configuration in
shadow (`gateway serve --shadow DIR`) judges the calls that were decided, beside the traffic:
a bounded number a second, from a bounded queue, so that its cost is bounded whatever the load.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.decision_record import CREDENTIAL_REFUSALS, UNJUDGED
from gateway.access.parsed_bodies import parsed_again, unparsed
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.route_table import Match
from gateway.access.routing.routes import Auth
from gateway.access.simulation import FixedAuthenticator, NoLimits, run_sync
from gateway.access.snapshot import Snapshot
from gateway.model import OWN_ISSUERS, Call, Clock, CredentialKind, Principal, Reason
from gateway.telemetry.access_record import AnsweredRequest
from gateway.telemetry.metrics import Metrics, Tally

log = structlog.get_logger(__name__)

MAX_WAITING = 2_000
MAX_BODY_BYTES = 16_777_216
"""Of the bodies that waiting calls hold."""
BATCH = 25
PAUSE_S = 0.01
MOST_S = 0.0005
"""Of processor time in every 10 ms, and the judgement that was begun: about 5 % of a core."""
LOGGED_A_MINUTE = 60


class ConfigurationSource(Protocol):
    """As `config.watcher.ConfigWatcher`: the configuration in shadow, reloaded as it changes."""

    @property
    def snapshot(self) -> Snapshot: ...


class Callers(Protocol):
    """As `worker.verified.RequestAuthenticator`."""

    def authenticate_now(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason | None: ...


@dataclass(slots=True)
class _Judged:
    call: Call
    decision: Decision
    request_id: str


class Shadow:
    """`edge.replies.observers.DecisionObserver` that asks what would have been."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        configuration: ConfigurationSource | None = None,
        callers: Callers | None = None,
        origins: OwnOrigins | None = None,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._configuration = configuration
        self._callers = callers
        self._caller = FixedAuthenticator(Reason.NO_CREDENTIAL)
        self._authorizer = Authorizer(self._caller, NoLimits(), clock=clock, origins=origins)
        self._waiting: deque[_Judged] = deque()
        self._body_bytes = 0
        self._outcomes: dict[str, Tally] = {}
        self._minute = 0
        self._logged = 0

    @property
    def takes_allowed(self) -> bool:
        return self._configuration is not None

    def decided(
        self,
        call: Call | None,
        decision: Decision | None,
        status: int,
        request_id: str,
        took_s: float = 0.0,
    ) -> None:
        if call is None or decision is None:
            return
        if decision.shadowed:
            self._count_rules(decision, request_id)
        if self._configuration is None or decision.reason in UNJUDGED:
            return
        body_bytes = self._body_bytes + len(call.raw_body)
        if len(self._waiting) >= MAX_WAITING or body_bytes > MAX_BODY_BYTES:
            self._outcome("not judged")
            return
        self._body_bytes = body_bytes
        self._waiting.append(_Judged(unparsed(call), decision, request_id))

    def refused(self, reason: Reason, route_id: str, request: AnsweredRequest) -> None:
        """What never became a call is judged by no configuration."""

    def answered(self, reason: str | None, request: AnsweredRequest) -> None:
        """No configuration judges the gateway's own endpoints."""

    async def run(self) -> None:
        """Judges the waiting calls, a few at a time."""
        pause_s = PAUSE_S
        while True:
            await asyncio.sleep(pause_s)
            began = time.thread_time()
            self.judge_some(MOST_S)
            # To parse and judge one body may take twenty times as long.
            pause_s = max(PAUSE_S, PAUSE_S / MOST_S * (time.thread_time() - began))

    def judge_some(self, most_s: float = math.inf) -> None:
        """Judges up to a batch of the waiting calls, and begins none after `most_s` of processor
        time."""
        if self._configuration is None:
            return
        snapshot = self._configuration.snapshot
        until = time.thread_time() + most_s
        for _ in range(min(BATCH, len(self._waiting))):
            if time.thread_time() >= until:
                return
            seen = self._waiting.popleft()
            self._body_bytes -= len(seen.call.raw_body)
            self._judge(seen, snapshot)

    def _judge(self, seen: _Judged, snapshot: Snapshot) -> None:
        decision = seen.decision
        unknown = decision.route is None or decision.route.auth is Auth.PUBLIC
        # A token whose issuer the route does not take, or that is for another resource.
        unknown = unknown or decision.refusal is Reason.TOKEN_CLAIMS_INVALID
        who: Principal | Reason | None = _who(decision)
        if unknown and seen.call.credential is not None:
            # Nobody has looked at the credential as this configuration would: a method that is
            # open here alone may need it, and a route may take whose token it is.
            who = self._at_hand(seen.call, snapshot)
        if who is None:
            self._outcome("not judged")
            return
        self._caller.caller = who
        would = run_sync(self._authorizer, parsed_again(seen.call), snapshot)
        if would.allowed == decision.allowed:
            self._outcome("the same")
            return
        self._outcome("would allow" if would.allowed else "would deny")
        self._tell(
            "shadow-differs",
            request_id=seen.request_id,
            route=would.route.id if would.route is not None else None,
            would="allow" if would.allowed else "deny",
            reason=str(would.reason),
            rule=would.rule,
            place=str(would.location) if would.location is not None else None,
            version=snapshot.version,
        )

    def _at_hand(self, call: Call, snapshot: Snapshot) -> Principal | Reason | None:
        """Who calls, where the configuration in shadow asks; None where a store would have to."""
        match = snapshot.routes.match(call.host, call.method, call.segments)
        if not isinstance(match, Match) or match.route.auth is Auth.PUBLIC:
            return Reason.NO_CREDENTIAL
        return (
            self._callers.authenticate_now(call, match.route.accept, match.route.issuers)
            if self._callers
            else None
        )

    def _count_rules(self, decision: Decision, request_id: str) -> None:
        for one in decision.shadowed:
            would = "allow" if one.allowed else "deny"
            self._metrics.tally(
                "shadow_rules",
                "Decisions that a rule or policy in shadow would have changed.",
                policy=one.policy,
                rule=one.rule or "",
                would=would,
            ).n += 1
            self._tell(
                "shadow-rule-differs",
                request_id=request_id,
                policy=one.policy,
                rule=one.rule,
                would=would,
                reason=str(one.reason),
                place=str(one.location),
            )

    def _outcome(self, outcome: str) -> None:
        tally = self._outcomes.get(outcome)
        if tally is None:
            tally = self._outcomes[outcome] = self._metrics.tally(
                "shadow_configuration",
                "Decisions judged by the configuration in shadow, by what it would have changed.",
                outcome=outcome.replace(" ", "_"),
            )
        tally.n += 1

    def _tell(self, event: str, **fields: str | None) -> None:
        minute = int(self._clock.steady() // 60)
        if minute != self._minute:
            self._minute, self._logged = minute, 0
        if self._logged < LOGGED_A_MINUTE:
            self._logged += 1
            log.info(event, **fields)


def _who(decision: Decision) -> Principal | Reason:
    if decision.principal is not None:
        return decision.principal
    refusal = decision.refusal
    return refusal if refusal in CREDENTIAL_REFUSALS and refusal else Reason.NO_CREDENTIAL
