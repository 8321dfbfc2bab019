"""`X-Auth-Assertion`: who calls, proven to an upstream.

An EdDSA JWT of 60 s, bound to one audience, method and path, so that a backend need not
believe a header because of where it came from.  Its keys are their own: the key ring does not
hold them, and no access token can be signed by them.

Law: a key is never stored.  Each period's key is derived from the installation's secret and a
salt that SQL keeps, so neither a stolen dump nor a leaked secret alone can sign, and every
worker of every node has the same key without telling another.  The keys of the period before
and of the next one stand in the JWKS beside the present one: no rotation makes a good
assertion fail, whoever keeps the JWKS for its max-age.
"""

from __future__ import annotations

import base64
import secrets

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.keys.jwk import Alg, SigningKey, VerifyingKey, verifying
from gateway.identity.tokens import jws
from gateway.model import Clock, Principal
from gateway.stores.protocols import Database

TYP = "authgate-assertion+jwt"
LIFE_S = 60
REUSE_S = 30.0
"""How long one text is given again for the same caller, audience, method and path: signing
costs some 25 µs.  What an upstream receives has LIFE_S - REUSE_S left at least."""
PERIOD_S = 90 * 86_400
"""How long one key signs."""

REMEMBERED_MAX = 4_096
_PATH_REMEMBERED_MAX = 512
_SALT = "assertion_salt"


class Assertions:
    """Made before the fork or after it; `open` it before use."""

    def __init__(self, database: Database, secret: bytes, clock: Clock, *, issuer: str) -> None:
        self._database = database
        self._secret = derived_key(secret, KeyPurpose.ASSERTION)
        self._clock = clock
        self._issuer = issuer
        self._salt: bytes | None = None
        self._keys: dict[int, SigningKey] = {}
        self._recent: dict[tuple[object, ...], str] = {}
        self._turn_at = 0.0

    async def open(self) -> None:
        """Reads the salt; the first that ever asks makes it.  Raises StoreUnavailable."""
        select = "SELECT value FROM installation WHERE name = :name"
        async with self._database.transaction() as tx:
            await tx.run(
                "INSERT INTO installation (name, value) VALUES (:name, :value)"
                " ON CONFLICT (name) DO NOTHING",
                name=_SALT,
                value=base64.b64encode(secrets.token_bytes(32)).decode("ascii"),
            )
            row = await tx.one(select, name=_SALT)
        if row is not None:
            salt = base64.b64decode(row["value"])
            if salt != self._salt:
                self._salt, self._keys, self._recent = salt, {}, {}

    def verifying_keys(self) -> list[VerifyingKey]:
        """For the JWKS: of the period before, of this one and of the next; none before `open`."""
        if self._salt is None:
            return []
        period = self._period()
        return [verifying(self._key(n).private.public_key()) for n in range(period - 1, period + 2)]

    def assertion(self, principal: Principal, audience: str, method: str, path: str) -> str | None:
        """The token for this call, made or given again; None before `open`.

        `path` is what the upstream will see, up to the `?`.
        """
        now = self._clock.steady()
        if now >= self._turn_at or len(self._recent) >= REMEMBERED_MAX:
            # Forgotten all at once: nothing is given again for longer than REUSE_S.
            self._recent, self._turn_at = {}, now + REUSE_S
        # A tuple of all that the token says: joined text could say one thing in two ways.
        key = (
            principal.subject,
            principal.session_id,
            principal.roles,
            principal.email,
            principal.email_verified,
            audience,
            method,
            path,
        )
        token = self._recent.get(key)
        if token is None:
            if self._salt is None:
                return None
            token = self._sign(principal, audience, method, path)
            if len(path) <= _PATH_REMEMBERED_MAX:
                self._recent[key] = token
        return token

    def _sign(self, principal: Principal, audience: str, method: str, path: str) -> str:
        issued_at = int(self._clock.now())
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": audience,
            "sub": principal.subject,
            "roles": list(principal.roles),
            "method": method,
            "path": path,
            "iat": issued_at,
            "exp": issued_at + LIFE_S,
        }
        if principal.session_id is not None:
            claims["sid"] = principal.session_id
        if principal.email is not None:
            claims["email"] = principal.email
            claims["email_verified"] = principal.email_verified
        key = self._key(self._period())
        return jws.signed({"alg": key.alg.value, "typ": TYP, "kid": key.kid}, claims, key.sign)

    def _period(self) -> int:
        return int(self._clock.now()) // PERIOD_S

    def _key(self, period: int) -> SigningKey:
        key = self._keys.get(period)
        if key is None:
            seed = HKDF(
                algorithm=SHA256(),
                length=32,
                salt=self._salt,
                info=f"authgate assertions, period {period}".encode(),
            ).derive(self._secret)
            private = Ed25519PrivateKey.from_private_bytes(seed)
            kid = verifying(private.public_key()).kid
            if len(self._keys) > 3:
                self._keys.clear()
            key = self._keys[period] = SigningKey(kid, Alg.EDDSA, private)
        return key
