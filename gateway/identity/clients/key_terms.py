"""Whether a personal key counts whose account must have a second factor (docs/factors.md).

Law: it is asked where SQL is read for the key, and never on a call: so what a key may do without a
factor is known for as long as the rest of what was read of it.
"""

from __future__ import annotations

from collections.abc import Callable, Set

from gateway.access.factor_rule import FactorRule
from gateway.identity.accounts.account_rows import Account
from gateway.identity.factors.factor_kinds import (
    BEGIN_TERM,
    factor_kinds,
    term_began_at,
    term_is_over,
)
from gateway.stores.protocols import Conflict, Database, StoreUnavailable, Transaction


class KeyTerms:
    def __init__(
        self, factor_rule: Callable[[], FactorRule], trusted_providers: Callable[[], Set[str]]
    ) -> None:
        """`factor_rule` is `require_factor` as the current snapshot says, `trusted_providers` are
        the issuers of those that are believed to have asked for a factor (`trust_mfa`)."""
        self._factor_rule = factor_rule
        self._trusted_providers = trusted_providers
        self._to_begin: set[str] = set()

    async def are_over(self, tx: Transaction, account: Account) -> bool:
        """Whether the account must have a factor, has none, and its term is over.

        A link with a trusted provider counts as one: whoever signs in there gives their factor
        there, and has none here.  A term that has not begun does by this (`write`).
        """
        if not await self._lacks_factor(tx, account):
            return False
        within_s = self._factor_rule().within_s
        began_at = await term_began_at(tx, account.id)
        if began_at is None:
            self._to_begin.add(account.id)
            return within_s == 0
        return began_at + within_s <= await tx.now()

    async def are_over_for_new(self, tx: Transaction, account: Account) -> bool:
        """The same where a key is to be made: a term that has not begun does in `tx`."""
        if not await self._lacks_factor(tx, account):
            return False
        return await term_is_over(tx, account, self._factor_rule(), int(await tx.now()))

    async def write(self, database: Database) -> None:
        """Begins the terms of who has called by a key: as by a sign-in, and never anew.  Raises
        StoreUnavailable."""
        accounts, self._to_begin = self._to_begin, set()
        if not accounts:
            return
        try:
            async with database.transaction() as tx:
                now = int(await tx.now())
                await tx.many(BEGIN_TERM, [{"id": one, "now": now} for one in sorted(accounts)])
        except Conflict:
            return  # one of them was deleted; the others are told of when their keys are read again
        except StoreUnavailable:
            self._to_begin |= accounts
            raise

    async def _lacks_factor(self, tx: Transaction, account: Account) -> bool:
        """Whether it must have one, and has none."""
        if not self._factor_rule().applies(account.roles):
            return False
        return not await factor_kinds(tx, account.id) and not await self._is_linked(tx, account.id)

    async def _is_linked(self, tx: Transaction, account_id: str) -> bool:
        trusted = self._trusted_providers()
        if not trusted:
            return False
        rows = await tx.all(
            "SELECT issuer FROM linked_identities WHERE account_id = :id", id=account_id
        )
        return any(row["issuer"] in trusted for row in rows)
