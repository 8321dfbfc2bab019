"""Sessions that were begun in a store, and statements that change what lies in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.identity.accounts.account_rows import Account
from gateway.identity.sessions.sessions import SignInSource
from gateway.identity.sign_in.refresh_tokens import RefreshTokens, SessionGrant
from gateway.model import Principal
from gateway.stores.protocols import Database

LIFE_S = 604_800
SOURCE = SignInSource("Firefox", "192.0.2.7")
COOKIE_HASH = "c" * 43


async def began(tokens: RefreshTokens, account: Account, **options: Any) -> SessionGrant:
    grant = await tokens.begin(account.id, SOURCE, checked_hash="hash", **options)
    assert isinstance(grant, SessionGrant)
    return replace(grant, displaced=tuple(grant.displaced))


def caller_of(grant: SessionGrant) -> Principal:
    """Who calls with an access token of the session."""
    return Principal(
        grant.account.id,
        grant.account.roles,
        grant.session_id,
        f"token-of-{grant.session_id}",
        None,
        kid="k",
        issued_at=grant.issued_at,
        expires_at=grant.issued_at + 900,
    )


async def run(store: Database, statement: str, **values: Any) -> None:
    async with store.transaction() as tx:
        await tx.run(statement, **values)
