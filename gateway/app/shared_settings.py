"""What the nodes of one installation must have in common, kept in SQL and compared.

Law: two nodes that differ in one of these refuse each other's tokens, passwords or keys, or call a
sign-out confirmed of which the other has not heard, and neither sees why.  So the first node
writes them down; whoever starts beside a node that runs with others is refused, and says which
differ.  Where nobody else runs, the new ones are written down: an operator who stops all nodes
may change what they like.  Who runs beside another with others all the same is found by
`settings_watch`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Mapping
from time import monotonic

import structlog

from gateway.app.settings import Settings
from gateway.identity.base64url import encoded
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.stores.protocols import ChangeStream, Database, StoreUnavailable, Transaction

log = structlog.get_logger(__name__)

MAX_STALENESS = "GATEWAY_MAX_STALENESS_S"
_NAME = "shared_settings"
_LOOK_EVERY_S = 0.3
_SECRET = "(secret)"  # noqa: S105 (what is shown instead)


class SettingsDiffer(ValueError):
    """Another node runs with other settings; the text says which, and what to do."""


def shared(settings: Settings, key_secret: bytes) -> dict[str, str]:
    """By name.  A secret stands as an HMAC under a key of GATEWAY_KEY_SECRET, which the signing
    keys in SQL hold every node to already."""
    return {
        "GATEWAY_PUBLIC_URL": settings.public_url,
        "GATEWAY_AUTH_PREFIX": settings.auth_prefix,
        "GATEWAY_ISSUER": settings.token_issuer,
        "GATEWAY_AUDIENCE": settings.token_audience,
        "GATEWAY_SIGNING_ALG": settings.signing_alg,
        "GATEWAY_MAX_TOKEN_LIFE_S": str(settings.max_token_life_s),
        MAX_STALENESS: f"{settings.max_staleness_s:g}",
        "GATEWAY_PASSWORD_PEPPER": _fingerprint(settings, key_secret),
    }


async def differences(database: Database, own: Mapping[str, str]) -> list[str]:
    """A sentence for each setting that differs from what the nodes have written down."""
    async with database.read_transaction() as tx:
        return compared(await _written(tx), own)


async def longest_staleness_s(database: Database, own_s: float) -> float:
    """How long a worker of these nodes may go without hearing what has been revoked: whoever
    waits for a silent one must not give it up sooner."""
    async with database.read_transaction() as tx:
        written = await _written(tx)
    return max(own_s, float(written.get(MAX_STALENESS, own_s)))


async def agree(
    database: Database, own: Mapping[str, str], stream: ChangeStream | None, max_staleness_s: float
) -> None:
    """Compares, and writes down what is new.  `stream` is None where no other node can be.

    Raises SettingsDiffer, and StoreUnavailable of SQL.
    """
    found = await differences(database, own)
    if found and stream is not None:
        try:
            others = await _others_live(stream, max_staleness_s)
        except StoreUnavailable as error:
            log.warning(
                "settings-not-compared", differences=found, store=error.store, why=error.detail
            )
            return
        if others:
            raise SettingsDiffer(
                "another node of this installation runs with other settings: "
                + "; ".join(found)
                + ". Give all nodes the same; to change one, stop every node first"
            )
    if found:
        log.warning("shared-settings-changed", differences=found)
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO installation (name, value) VALUES (:name, :value)"
            " ON CONFLICT (name) DO UPDATE SET value = :value",
            name=_NAME,
            value=json.dumps(dict(own), sort_keys=True),
        )


async def _others_live(stream: ChangeStream, max_staleness_s: float) -> bool:
    """Whether a worker renews its lease; those of nodes that died stay, and do not move."""
    before = {name: state.heartbeat for name, state in (await stream.view()).leases.items()}
    until = monotonic() + max_staleness_s
    while before and monotonic() < until:
        await asyncio.sleep(_LOOK_EVERY_S)
        leases = (await stream.view()).leases
        if any(before.get(name) != state.heartbeat for name, state in leases.items()):
            return True
        before = {name: heartbeat for name, heartbeat in before.items() if name in leases}
    return False


async def _written(tx: Transaction) -> Mapping[str, str]:
    row = await tx.one("SELECT value FROM installation WHERE name = :name", name=_NAME)
    return json.loads(row["value"]) if row is not None else {}


def compared(written: Mapping[str, str], own: Mapping[str, str]) -> list[str]:
    """A sentence for each setting of both that differs."""
    return [
        f"{name} differs"
        if own[name].startswith(_SECRET) or there.startswith(_SECRET)
        else f"{name} is {own[name]} here and {there} there"
        for name, there in written.items()
        if name in own and own[name] != there
    ]


def _fingerprint(settings: Settings, key_secret: bytes) -> str:
    pepper = settings.password_pepper
    if pepper is None:
        return f"{_SECRET} none"
    key = derived_key(key_secret, KeyPurpose.SETTINGS)
    digest = hmac.digest(key, pepper.get_secret_value().encode(), hashlib.sha256)
    return f"{_SECRET} {encoded(digest[:16])}"
