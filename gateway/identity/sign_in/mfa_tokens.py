"""`mfa_token`: a sign-in whose first step was right, on its way to the second.

Law: it opens no session.  It is sealed, holds for five minutes, at the host that it was given at,
for the account as it was then: a password that was replaced, a role that was granted and a sign-out
of all since end it.  It is used up with the sign-in that it completes.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from gateway.identity.factors.factor_kinds import AccountVersion, FactorNeeded
from gateway.identity.sealed_tokens import CLOCK_STEP_S, SealedTokens
from gateway.identity.sessions.session_origins import SessionOrigin
from gateway.identity.sessions.sessions import Transport
from gateway.model import Clock
from gateway.stores.protocols import NonceStore

MFA_TTL_S = 300
_KIND = b"mfa token"


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    id: str
    account_id: str
    version: AccountVersion
    amr: tuple[str, ...]
    """What the first step proved."""
    transport: Transport
    known_device: bool
    enrols: bool
    """The account has no factor, and its term is over: it enrols one with this token."""
    origin: SessionOrigin | None = None
    """What began the sign-in besides its owner."""


@dataclass(frozen=True, slots=True)
class IssuedMfaToken:
    id: str
    text: str = field(repr=False)


class MfaTokens:
    def __init__(self, key: bytes, nonces: NonceStore, clock: Clock) -> None:
        """`key` is `derived_key(secret, KeyPurpose.MFA)`."""
        self._sealed = SealedTokens(key)
        self._nonces = nonces
        self._clock = clock

    def issue(
        self,
        needed: FactorNeeded,
        host: str,
        transport: Transport,
        *,
        known_device: bool,
        origin: SessionOrigin | None = None,
    ) -> IssuedMfaToken:
        """`host` as calls have it."""
        account, token_id = needed.account, secrets.token_urlsafe(16)
        text = self._sealed.seal(
            _KIND,
            [
                token_id,
                account.id,
                account.password_epoch,
                account.not_before,
                list(needed.amr),
                transport,
                known_device,
                not needed.kinds,
                # Not null: nodes of the version before read a list where there is no origin.
                [] if origin is None else origin.parts(),
                host,
                int(self._clock.now()) + MFA_TTL_S,
            ],
        )
        return IssuedMfaToken(token_id, text)

    def read(self, token: str, host: str) -> PendingSignIn | None:
        """None for what was not sealed here, is over, or was given at another host."""
        match self._sealed.open(_KIND, token):
            case [
                str(token_id),
                str(account_id),
                int(password_epoch),
                int(not_before),
                list(amr),
                ("bearer" | "cookie") as transport,
                bool(known_device),
                bool(enrols),
                ([] | None | dict()) as parts,
                str(given_at),
                int(expires_at),
            ] if given_at == host and expires_at > self._clock.now():
                origin = SessionOrigin.of(parts)
                if isinstance(parts, dict) and origin is None:
                    # Without it nobody would know whether the provider has ended it meanwhile.
                    return None
                return PendingSignIn(
                    token_id,
                    account_id,
                    AccountVersion(password_epoch, not_before),
                    tuple(map(str, amr)),
                    transport,
                    known_device,
                    enrols,
                    origin,
                )
        return None

    async def claim(self, pending: PendingSignIn) -> bool:
        """Whether it is completed for the first time.  Raises StoreUnavailable."""
        return await self._nonces.claim(f"mfa:{pending.id}", MFA_TTL_S + CLOCK_STEP_S)
