"""Knows what each answer must be, and judges every one.

What a caller may is no matter of opinion: whoever drives the traffic knows whose session it is,
what the policies say of the account, and which sign-outs were answered 204.  An answer is

- `right`: what had to come;
- `unavailable`: nobody decided (502, 503, 504, a connection that ended, an answer that was late);
- `wrong`: somebody decided otherwise, or for somebody else, or a field was forged;
- `defect`: 500.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bench.soak.answers import MUST_SAY_WHEN, Answer

FORGED = "forged-by-the-client"
"""The value of every identity field that a client of ours made up."""
MOST_TOLD = 200
_IDENTITY = ("x-auth-user-id", "x-auth-email", "x-auth-roles", "x-auth-session-id")
_SECRETS = ("authorization", "x-csrf-token")


class Verdict(StrEnum):
    RIGHT = "right"
    UNAVAILABLE = "unavailable"
    WRONG = "wrong"
    DEFECT = "defect"


class Subject(StrEnum):
    """What a call is about: what an event may cost is said for each."""

    CREDENTIAL = "credential"
    """A live credential on a route that it may use: what availability counts."""
    REFUSAL = "refusal"
    """A call that has to be refused."""
    ACCOUNT = "account"
    """Sign-in, refresh, registration, password, keys: what SQL is asked for."""
    SIGN_OUT = "sign-out"
    """What ends sessions, a new password among it: every worker has to hear of it."""
    PUBLIC = "public"
    ISSUER = "issuer"
    """A token of another issuer."""
    PROBE = "probe"
    """A live credential, asked with each second."""
    LASTING = "lasting"
    """A socket or a stream that must not end."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the backend must be told of."""

    user_id: str
    email: str = ""
    roles: frozenset[str] = frozenset()
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The call reaches the backend (or its endpoint does what was asked)."""

    identity: Identity | None = None
    statuses: frozenset[int] = frozenset((200,))

    def problem(self, answer: Answer, path: str) -> str:
        """Why the answer is not this one; empty where it is."""
        if answer.status not in self.statuses:
            return f"{answer.status} {answer.reason}".strip()
        return _misled(answer.body, self.identity, path)


@dataclass(frozen=True, slots=True)
class Refused:
    status: int
    reasons: frozenset[str] = frozenset()
    """Any of them; none where the answer has no reason to tell."""

    def problem(self, answer: Answer, path: str) -> str:
        del path
        if answer.status != self.status:
            return f"{answer.status} {answer.reason}".strip()
        if self.reasons and answer.reason not in self.reasons:
            return f"{answer.status} {answer.reason} for another reason"
        return ""


Expected = Allowed | Refused


def allowed(identity: Identity | None = None, *statuses: int) -> Allowed:
    return Allowed(identity, frozenset(statuses or (200,)))


def refused(status: int, *reasons: str) -> Refused:
    return Refused(status, frozenset(reasons))


@dataclass(slots=True)
class Judgement:
    verdict: Verdict
    why: str = ""
    """The cause of what is unavailable; what is wrong about what is wrong."""


def judge(answer: Answer, expected: Sequence[Expected], path: str = "") -> Judgement:
    """Any one of `expected` is right."""
    if answer.status == 500:
        return Judgement(Verdict.DEFECT, "500")
    if cause := answer.unavailable:
        if answer.status == 503 and "retry-after" not in answer.fields and cause != "balancer":
            return Judgement(Verdict.WRONG, f"503 {cause} without Retry-After")
        return Judgement(Verdict.UNAVAILABLE, cause)
    problems = [one.problem(answer, path) for one in expected]
    if "" not in problems:
        return Judgement(Verdict.WRONG, " or ".join(dict.fromkeys(problems)) or "nothing expected")
    if answer.status in MUST_SAY_WHEN and "retry-after" not in answer.fields:
        return Judgement(Verdict.WRONG, f"{answer.status} without Retry-After")
    return Judgement(Verdict.RIGHT)


def _misled(echoed: Any, identity: Identity | None, path: str) -> str:
    """What is false in that which the backend says that it received; empty where nothing is, and
    where no backend speaks."""
    if not isinstance(echoed, dict) or "echo" not in echoed:
        return "" if identity is None else "the answer is not the backend's"
    if echoed.get("path") != path:
        return f"the answer to another call ({echoed.get('path')})"
    told: dict[str, list[str]] = {}
    for name, value in echoed["headers"]:
        told.setdefault(str(name).lower().replace("_", "-"), []).append(str(value))
    for name, values in told.items():
        if any(FORGED in value for value in values):
            return f"a forged {name} reached the backend"
        if name in _SECRETS or (name == "cookie" and "__Host-session" in values[0]):
            return f"{name} reached the backend"
    if identity is None:
        found = [name for name in told if name.startswith("x-auth-")]
        return f"{found[0]} on a call without identity" if found else ""
    wanted = {
        "x-auth-user-id": {identity.user_id},
        "x-auth-email": {identity.email} if identity.email else set(),
        "x-auth-roles": set(identity.roles),
        "x-auth-session-id": {identity.session_id} if identity.session_id else set(),
    }
    for name in _IDENTITY:
        values = told.get(name, [])
        if len(values) > 1:
            return f"{name} came {len(values)} times"
        parts = {part for part in (values[0] if values else "").split(",") if part}
        if parts != wanted[name]:
            return f"{name} is {','.join(sorted(parts)) or 'absent'}"
    return ""


@dataclass(slots=True)
class Unavailable:
    """One answer that nobody gave, kept to be held against what happened meanwhile."""

    at: float
    until: float
    subject: Subject
    kind: str
    cause: str


@dataclass
class Oracle:
    """Every verdict of a run."""

    began_at: float = field(default_factory=time.monotonic)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """Verdicts by the kind of call."""
    by_subject: dict[Subject, Counter[str]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    """What was wrong, in words; the first MOST_TOLD."""
    unavailable: list[Unavailable] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Writes that were acknowledged and are not there."""
    broken: list[str] = field(default_factory=list)
    """Events that did not do what they had to: no reload, no healing in time."""
    took_s: list[tuple[float, float]] = field(default_factory=list)
    """When, and how long, of calls with live credentials."""

    def judge(
        self,
        answer: Answer,
        expected: Sequence[Expected],
        *,
        subject: Subject,
        kind: str,
        path: str = "",
    ) -> Verdict:
        judgement = judge(answer, expected, path)
        self.note(judgement, subject=subject, kind=kind, at=(answer.sent_at, answer.received_at))
        if subject is Subject.CREDENTIAL and judgement.verdict is Verdict.RIGHT:
            self.took_s.append((answer.sent_at - self.began_at, answer.took_s))
        return judgement.verdict

    def note(
        self, judgement: Judgement, *, subject: Subject, kind: str, at: tuple[float, float]
    ) -> None:
        """`at`: when it began and when it ended."""
        self.counts.setdefault(kind, Counter())[judgement.verdict] += 1
        self.by_subject.setdefault(subject, Counter())[judgement.verdict] += 1
        if judgement.verdict is Verdict.UNAVAILABLE:
            self.unavailable.append(Unavailable(*at, subject, kind, judgement.why))
        elif judgement.verdict is not Verdict.RIGHT:
            self.tell(kind, judgement.why, at[0])

    def wrong(self, kind: str, why: str, subject: Subject = Subject.REFUSAL) -> None:
        """What no single answer shows."""
        now = time.monotonic()
        self.note(Judgement(Verdict.WRONG, why), subject=subject, kind=kind, at=(now, now))

    def tell(self, kind: str, why: str, at: float) -> None:
        if len(self.told) < MOST_TOLD:
            self.told.append(f"{at - self.began_at:7.1f} s  {kind}: {why}")

    def total(self, verdict: Verdict) -> int:
        return sum(count[verdict] for count in self.counts.values())

    @property
    def judged(self) -> int:
        return sum(count.total() for count in self.counts.values())

    def availability(self, subject: Subject) -> float:
        """The share of calls that were decided; 0 where there were none, as nothing was shown."""
        count: Mapping[str, int] = self.by_subject.get(subject, Counter())
        answered = count[Verdict.RIGHT] + count[Verdict.WRONG]
        asked = answered + count[Verdict.UNAVAILABLE] + count[Verdict.DEFECT]
        return answered / asked if asked else 0.0
