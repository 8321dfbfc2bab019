"""Writes down what an issuer, or an operator in its stead, says has ended.

Law: the rows are those of our own revocations, with the names that its tokens have here, so that
every worker hears of them in the same way.  A repeated report adds no row.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.identity.issuers.event_tokens import ReportedEnd
from gateway.identity.issuers.external_ids import external_name
from gateway.identity.revocations import Refusal, refuse_all
from gateway.model import Change, ChangeKind, without_session
from gateway.stores.protocols import Transaction


async def record_ends(
    tx: Transaction, issuer_name: str, ends: Sequence[ReportedEnd], not_before: int
) -> list[Change]:
    """The changes that refuse their tokens: those of a subject that were issued until
    `not_before`, by the issuer's clock, and all of a session.

    Of a session whose subject is named too, tokens may name the subject alone.
    """
    refusals: list[Refusal] = []
    for end in ends:
        if end.session_id is not None:
            session = external_name(issuer_name, end.session_id)
            refusals.append(Refusal(ChangeKind.SESSION, session, not_before))
        if end.subject is not None:
            subject = external_name(issuer_name, end.subject)
            target = subject if end.session_id is None else without_session(subject)
            refusals.append(Refusal(ChangeKind.SUBJECT, target, not_before))
    return await refuse_all(tx, refusals)
