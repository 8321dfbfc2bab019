"""What a part of a condition gives, and the words for it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from gateway.access.authorizer import Decision
from gateway.access.conditions.conditions import Outcome

TRUE, FALSE, FAILED = "true", "false", "failed"
TRUTHS = frozenset((TRUE, FALSE, FAILED))
"""Every outcome of a part."""
WORDS: dict[str, frozenset[Hashable]] = {
    "true": frozenset((TRUE,)),
    "not true": frozenset((FALSE, FAILED)),
    "false": frozenset((FALSE,)),
    "failed": frozenset((FAILED,)),
    "judged": frozenset((TRUE, FALSE)),
    "not false": frozenset((TRUE, FAILED)),
}


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """What a part gave before the change, and what it gives after."""

    before: Hashable
    after: Hashable


def reached(decision: Decision) -> int:
    """How far a call comes: 0 where it is refused, or sent away by the route itself (a redirect, a
    `direct_response` from 400 on); 1 where the route answers it; 2 where a backend does."""
    if not decision.allowed:
        return 0
    answer = None if decision.route is None else decision.route.direct_response
    if answer is None:
        return 2
    return 0 if answer.location is not None or answer.status >= 400 else 1


def outcome_of(outcome: Outcome) -> str:
    """The outcome of an evaluation, whatever the sentence of its failure."""
    if isinstance(outcome, str):
        return FAILED
    return TRUE if outcome else FALSE


def one_sided_word(allowed: frozenset[Hashable], seen: set[Hashable], gains: bool) -> str | None:
    """The word for what a part gives now (of a loss: gave before) in just the allowed cases."""

    def given(value: Hashable) -> Hashable:
        return (value.after if gains else value.before) if isinstance(value, BeforeAfter) else value

    for word, outcomes in WORDS.items():
        if {value for value in seen if given(value) in outcomes} == allowed & seen:
            return word
    return None


def outcome_word(
    outcomes: Iterable[Hashable], allowed: Iterable[Hashable], seen: Iterable[Hashable]
) -> str:
    """The plainest word for all of these outcomes that means, of those that a part gives
    anywhere (`seen`), none but the allowed."""
    wanted, good = set(outcomes), set(allowed) | (TRUTHS - set(seen))
    return next((word for word, meant in WORDS.items() if wanted <= meant <= good), "judged")
