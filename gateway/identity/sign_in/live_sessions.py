"""Whether a session may go on: asked by whatever gives its holder something new.

Law: a new access token, a cookie that is written anew, one more cookie, a personal key: each asks
`LiveSessions` first, under the lock of the account.  So an access token that is there lives out its
minutes, and nothing comes of it that lasts longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.access.factor_rule import NO_FACTOR_RULE, FactorRule
from gateway.identity.accounts.account_rows import Account
from gateway.identity.factors.factor_kinds import MFA, term_is_over, would_be_over
from gateway.model import Reason
from gateway.stores.protocols import Row, Transaction


class LiveSessions:
    def __init__(
        self, idle_s: int = 0, factor_rule: Callable[[], FactorRule] = lambda: NO_FACTOR_RULE
    ) -> None:
        """A session that is unused for `idle_s` is over; 0 for never.  `factor_rule` is
        `require_factor` as the current snapshot says."""
        self._idle_s = idle_s
        self._factor_rule = factor_rule

    async def refusal(
        self,
        tx: Transaction,
        account: Account | None,
        row: Row | None,
        now: int,
        methods: Sequence[str] | None = None,
        *,
        begins_term: bool = True,
    ) -> Reason | None:
        """Why the session may not go on; None where it may.

        SESSION_UNKNOWN where it, or the account, is over; INSUFFICIENT_USER_AUTHENTICATION where
        the term is over in which the account enrols a second factor, and the session began without
        one.  `account` is held by the transaction, `row` is the session's, and `methods` are those
        that it will have, where it gets others.  `begins_term`: False for who only describes it.
        """
        if account is None or row is None or account.disabled or self.is_over(row, now):
            return Reason.SESSION_UNKNOWN
        if MFA in (str(row["amr"]).split() if methods is None else methods):
            return None
        is_over = term_is_over if begins_term else would_be_over
        if await is_over(tx, account, self._factor_rule(), now):
            return Reason.INSUFFICIENT_USER_AUTHENTICATION
        return None

    async def refusal_of(
        self, tx: Transaction, account: Account | None, session_id: str
    ) -> Reason | None:
        """The same, of the session of this id."""
        row = await tx.one(
            "SELECT amr, last_used_at, expires_at, ended_at FROM families"
            " WHERE id = :id AND account_id = :account",
            id=session_id,
            account="" if account is None else account.id,
        )
        return await self.refusal(tx, account, row, int(await tx.now()))

    def is_over(self, row: Row, now: int) -> bool:
        """Whether the session has ended, by whatever, or will not be used any more."""
        if row["ended_at"] is not None or int(row["expires_at"]) <= now:
            return True
        return bool(self._idle_s) and int(row["last_used_at"]) + self._idle_s <= now
