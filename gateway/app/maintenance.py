"""What a worker does beside its calls, each in a task of its own: keys, certificates, old rows."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import suppress

import structlog

from gateway.app.allocator import give_back
from gateway.app.components import Components
from gateway.audit.chain import ChainKey
from gateway.audit.log import AuditEvent, AuditKind, AuditLog
from gateway.audit.pruning import prune, pruner_name, retained_since_s
from gateway.edge.server.listener_tls import POLL_EVERY_S
from gateway.identity.clients.client_auth import purge_assertions
from gateway.identity.clients.personal_keys import purge_personal_keys
from gateway.identity.factors.totp import purge_enrolments
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.key_ring import REFRESH_EVERY_S
from gateway.identity.keys.rotation import RotatedKey
from gateway.identity.keys.signing_keys import readable_chain_keys
from gateway.identity.sessions.purging import erase_sealed, purge_sessions
from gateway.stores.nonces import RedisNonceStore
from gateway.stores.protocols import StoreUnavailable

log = structlog.get_logger(__name__)

SWEEP_EVERY_S = 60.0
PURGE_EVERY_S = 3600.0
WHOLE_SWEEP_EVERY = 10
QUICK_S = 0.01
PRUNE_EVERY_S = 23 * 3600


class Maintenance:
    """Each method runs for as long as the worker does."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self._sweeps = 0
        self._whole_took_s = 0.0
        """CPU time of the last collection that walked all objects."""

    async def rotate_keys(self) -> None:
        parts = self._components
        while True:
            await asyncio.sleep(REFRESH_EVERY_S)
            await parts.key_rotation.rotate_if_due(
                period_s=parts.plan.settings.key_rotation_s or None, on_rotated=self._rotated
            )
            await parts.ring.refresh()
            parts.ring.publish(parts.assertions.verifying_keys())

    async def prune_audit(self) -> None:
        """Once a day, on whichever worker is first."""
        parts = self._components
        keep_s = parts.plan.settings.audit_retention_days * 86_400
        once = RedisNonceStore(parts.redis)
        while True:
            try:
                if await once.claim("audit-prune", PRUNE_EVERY_S):
                    secret = parts.plan.key_secret()
                    pruner = AuditLog(
                        parts.database,
                        parts.clock,
                        derived_key(secret, KeyPurpose.AUDIT_PSEUDONYM),
                        derived_key(secret, KeyPurpose.AUDIT_CHAIN),
                        writer=pruner_name(),
                    )
                    async with parts.database.read_transaction() as tx:
                        older = await readable_chain_keys(tx, Sealer(secret))
                    before_s = await retained_since_s(parts.database, parts.clock, keep_s)
                    await prune(parts.database, pruner, before_s, map(ChainKey, older))
            except StoreUnavailable as error:
                log.warning("audit-not-pruned", store=error.store, why=error.detail)
            await asyncio.sleep(PURGE_EVERY_S)

    def _rotated(self, rotated: RotatedKey) -> None:
        detail = {
            "change": "rotated when it was due",
            "kid": rotated.active,
            "retiring": rotated.retiring,
        }
        self._components.audit.record(AuditEvent(AuditKind.KEY_CHANGED, detail=detail))

    async def sweep(self) -> None:
        parts = self._components
        purge_at = 0.0
        while True:
            parts.authenticator.sweep()
            parts.cookies.sweep()
            self.collect_garbage()
            now = parts.clock.steady()
            with suppress(StoreUnavailable):
                await erase_sealed(parts.database)
                if now >= purge_at:
                    await purge_sessions(parts.database)
                    await purge_assertions(parts.database)
                    await purge_personal_keys(parts.database)
                    await purge_enrolments(parts.database)
                    purge_at = now + PURGE_EVERY_S
            await asyncio.sleep(SWEEP_EVERY_S)

    def collect_garbage(self) -> None:
        """Connections and hashes leave cycles of objects behind.  The collector looks for some
        after so many new objects (`app/server.py`) that by itself it would leave megabytes of
        them for many minutes of a few calls a second.  All objects are walked each time where
        that is quick; where 10,000 connections are open it takes tens of milliseconds, and is
        done every ten minutes."""
        self._sweeps += 1
        if self._sweeps % WHOLE_SWEEP_EVERY == 0 or self._whole_took_s < QUICK_S:
            began_at = time.thread_time()
            gc.collect()
            self._whole_took_s = time.thread_time() - began_at
        else:
            gc.collect(1)
        give_back()

    async def follow_certificates(self) -> None:
        assert self._components.certificates is not None
        while True:
            self._components.certificates.poll()
            await asyncio.sleep(POLL_EVERY_S)
