"""Writes down what an issuer, or an operator in its stead, says has ended.

Law: the rows are those of our own revocations, with the names that its tokens have here, so that
every worker hears of them in the same way.  A repeated report adds no row.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.identity.issuers.event_tokens import ReportedEnd
from gateway.identity.revocations import refuse_before, refuse_once
from gateway.model import Change, ChangeKind, without_session
from gateway.stores.protocols import Transaction


def external_name(issuer_name: str, name: str) -> str:
    """How a subject or a session of another issuer is named here."""
    return f"{issuer_name}:{name}"


async def record_end(
    tx: Transaction, issuer_name: str, end: ReportedEnd, not_before: int
) -> Sequence[Change]:
    """The changes that refuse its tokens: those of a subject that were issued until
    `not_before`, by the issuer's clock, and all of a session.

    Of a session whose subject is named too, tokens may name the subject alone.
    """
    changes: list[Change] = []
    if end.session_id is not None:
        session = external_name(issuer_name, end.session_id)
        changes += await refuse_once(tx, ChangeKind.SESSION, session)
    if end.subject is not None:
        subject = external_name(issuer_name, end.subject)
        target = subject if end.session_id is None else without_session(subject)
        changes += await refuse_before(tx, target, not_before)
    return changes
