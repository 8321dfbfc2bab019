"""What each event may cost, for whom: the one table. Whatever else is not answered during it, and
whatever is not answered while nothing happens, is unexpected.

Causes are reasons of the gateway, and where it said nothing `cut` (the connection ended), `late`
(no answer in 10 s, of a probe in 2 s), `balancer` (HAProxy's own 502, 503 or 504) and `ended` (a
socket or stream that was open), or `page` where people are told and no program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from bench.soak.oracle import Subject, Unavailable

LINGERS_S = 8.0
"""What an event did to leases and connections is over so long after it has healed."""
BEFORE_S = 0.2


class Kind(StrEnum):
    WORKER_KILLED = "worker killed"
    MASTER_KILLED = "master killed"
    NODE_LOST = "node lost"
    WORKER_STOPPED = "worker stopped"
    BACKEND_KILLED = "backend killed"
    GOOD_RELOAD = "policy edited"
    BAD_RELOAD = "policy broken"
    KEYS_ROTATED = "signing key rotated"
    ROLES_CHANGED = "roles changed"
    REDIS_CUT = "redis connections cut"
    REDIS_FROZEN = "redis frozen"
    REDIS_KILLED = "redis killed"
    REDIS_AWAY = "redis away"
    SQL_CUT = "sql connections cut"
    SQL_FROZEN = "sql frozen"
    SQL_KILLED = "sql killed"
    SQL_AWAY = "sql away"
    ISSUER_AWAY = "issuer away"
    ISSUER_KEYS = "issuer's key rotated"
    CLOCK_STEPS = "clock steps"
    NODE_RESTARTED = "node restarted"
    ROLLING_RESTART = "rolling restart"


@dataclass(frozen=True)
class Consequence:
    does: str
    costs: Mapping[Subject, frozenset[str]]
    promise: str
    """What callers see, in words."""


_BEARERS = (
    Subject.CREDENTIAL,
    Subject.PROBE,
    Subject.REFUSAL,
    Subject.ISSUER,
    Subject.LASTING,
)
_EVERY = tuple(Subject)


def _costs(*parts: tuple[Iterable[Subject], str]) -> dict[Subject, frozenset[str]]:
    found: dict[Subject, set[str]] = {}
    for subjects, causes in parts:
        for subject in subjects:
            found.setdefault(subject, set()).update(causes.split())
    return {subject: frozenset(causes) for subject, causes in found.items()}


_PROCESS_GONE = (
    (_EVERY, "cut balancer upstream_unreachable"),
    (_BEARERS, "replica_stale page late"),
    ((Subject.ACCOUNT, Subject.SIGN_OUT), "store_unavailable replica_stale late"),
    ((Subject.SIGN_OUT,), "revocation_pending"),
    ((Subject.LASTING,), "ended"),
)
_SIGN_OUTS_WAIT = ((Subject.SIGN_OUT,), "revocation_pending store_unavailable")
_REDIS = (
    _SIGN_OUTS_WAIT,
    ((Subject.ACCOUNT,), "store_unavailable store_busy"),
    # Only cookies are looked up there.
    ((Subject.CREDENTIAL, Subject.PROBE, Subject.REFUSAL), "store_unavailable page"),
)
_SQL = (
    ((Subject.ACCOUNT, Subject.SIGN_OUT), "store_unavailable store_busy hashing_busy"),
    _SIGN_OUTS_WAIT,
    # Only API keys and cookies that a worker has not met, or not for a minute, are looked up there.
    ((Subject.CREDENTIAL, Subject.PROBE, Subject.REFUSAL), "store_unavailable store_busy page"),
)
_NOTHING: dict[Subject, frozenset[str]] = {}

TABLE: Mapping[Kind, Consequence] = {
    Kind.WORKER_KILLED: Consequence(
        "kill -9 of one worker",
        _costs(*_PROCESS_GONE),
        "what it had in hand is lost, sockets and streams that it held end; sign-outs may be"
        " `revocation_pending` until its lease is over",
    ),
    Kind.MASTER_KILLED: Consequence(
        "kill -9 of a node's master; the node is started again",
        _costs(*_PROCESS_GONE),
        "as a worker, for the whole node: the other one goes on",
    ),
    Kind.NODE_LOST: Consequence(
        "kill -9 of every process of a node at once; the node is started again",
        _costs(*_PROCESS_GONE),
        "as a worker, for the whole node: the other one goes on",
    ),
    Kind.WORKER_STOPPED: Consequence(
        "SIGSTOP of one worker for 2 s",
        _costs((_EVERY, "late cut balancer"), (_BEARERS, "replica_stale"), _SIGN_OUTS_WAIT),
        "its calls wait; sign-outs wait for it, or are `revocation_pending`",
    ),
    Kind.BACKEND_KILLED: Consequence(
        "kill -9 of one of two backends; it is started again after 2 s",
        _costs(
            (_EVERY, "upstream_unreachable upstream_malformed cut"), ((Subject.LASTING,), "ended")
        ),
        "calls that it had in hand are 502 where they may not be sent twice; sockets and streams"
        " through it end; every other call goes to the other backend",
    ),
    Kind.GOOD_RELOAD: Consequence(
        "a policy is edited on both nodes", _NOTHING, "nothing; the edit holds within 5 s"
    ),
    Kind.BAD_RELOAD: Consequence(
        "a policy is broken on both nodes, and mended",
        _NOTHING,
        "nothing: the last good configuration goes on, and is told to be stale",
    ),
    Kind.KEYS_ROTATED: Consequence(
        "`gateway keys rotate`", _NOTHING, "nothing: tokens of the key before stay good"
    ),
    Kind.ROLES_CHANGED: Consequence(
        "`gateway roles grant`, later `revoke`",
        _NOTHING,
        "tokens of the person are outdated when the command returns; a refresh brings the roles",
    ),
    Kind.REDIS_CUT: Consequence(
        "every connection to Valkey is reset",
        _costs(*_REDIS),
        "a call that asks it at that moment may be 503",
    ),
    Kind.REDIS_FROZEN: Consequence(
        "SIGSTOP of Valkey for 3 s",
        _costs(*_REDIS),
        "calls with tokens go on (the lease holds 4.5 s); cookies that a worker has not met are"
        " 503; sign-outs are `revocation_pending`",
    ),
    Kind.REDIS_KILLED: Consequence(
        "kill -9 of Valkey; it is started again",
        _costs(*_REDIS, (_BEARERS, "replica_stale")),
        "as frozen; sign-outs are `revocation_pending` for up to 4.6 s after its return",
    ),
    Kind.REDIS_AWAY: Consequence(
        "nobody reaches Valkey for 5.5 s, a second longer than a lease holds",
        _costs(
            *_REDIS, (_BEARERS, "replica_stale"), ((Subject.LASTING,), "ended cut replica_stale")
        ),
        "as frozen for 4.5 s; then every call with a credential is 503 `replica_stale` until it is"
        " back. This counts against availability",
    ),
    Kind.SQL_CUT: Consequence(
        "every connection to PostgreSQL is reset",
        _costs(*_SQL),
        "a call that asks it at that moment may be 503",
    ),
    Kind.SQL_FROZEN: Consequence(
        "SIGSTOP of PostgreSQL for 4 s",
        _costs(*_SQL),
        "sign-ins, refreshes and sign-outs are 503; calls with tokens go on",
    ),
    Kind.SQL_KILLED: Consequence(
        "kill -9 of PostgreSQL; it is started again", _costs(*_SQL), "as frozen"
    ),
    Kind.SQL_AWAY: Consequence("nobody reaches PostgreSQL for 6 s", _costs(*_SQL), "as frozen"),
    Kind.ISSUER_AWAY: Consequence(
        "nobody listens at the issuer's key set for 6 s",
        _NOTHING,
        "nothing: its keys are known",
    ),
    Kind.ISSUER_KEYS: Consequence(
        "the issuer signs with a new key",
        _costs(((Subject.ISSUER, Subject.REFUSAL), "issuer_unavailable")),
        "the first token under it waits for the key to be fetched; a worker that asked for an"
        " unknown key in the last 10 s asks no sooner, and says `key_unknown` till then",
    ),
    Kind.CLOCK_STEPS: Consequence(
        "the clock of one node steps 3 s ahead, 3 s back, and is set right",
        _NOTHING,
        "nothing: tokens are taken that are up to 5 s ahead, and clients renew theirs in time",
    ),
    Kind.NODE_RESTARTED: Consequence(
        "SIGTERM; when it has drained, the node is started again",
        _costs(
            ((Subject.LASTING,), "ended cut"),
            # Who asks it directly, past the balancer, finds nobody, or somebody who has just come.
            ((Subject.REFUSAL,), "cut replica_stale"),
            _SIGN_OUTS_WAIT,
        ),
        "sockets and streams through it end; no call is lost",
    ),
    Kind.ROLLING_RESTART: Consequence(
        "SIGTERM to one node; when it is back, to the other",
        _costs(
            ((Subject.LASTING,), "ended cut"),
            ((Subject.REFUSAL,), "cut replica_stale"),
            _SIGN_OUTS_WAIT,
        ),
        "as one node; no call is lost",
    ),
}


@dataclass(slots=True)
class Happened:
    """One event of a run, on the steady clock."""

    kind: Kind
    what: str
    began_at: float
    healed_at: float
    ends_first_node: bool = False
    """Whether processes of the first node end with it."""

    def explains(self, one: Unavailable) -> bool:
        began, until = self.began_at - BEFORE_S, self.healed_at + LINGERS_S
        costs = TABLE[self.kind].costs.get(one.subject, frozenset())
        return one.cause in costs and one.at <= until and one.until >= began


def unexpected(found: Iterable[Unavailable], events: Iterable[Happened]) -> list[Unavailable]:
    """What no event explains."""
    held = list(events)
    return [one for one in found if not any(event.explains(one) for event in held)]
