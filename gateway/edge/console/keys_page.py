"""`/admin/keys`: the signing keys with their states; no half of one is ever on a page."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.audit.log import AuditKind
from gateway.audit.operator_events import operator_event
from gateway.edge.console.operator_database import ending
from gateway.edge.console.pages import (
    Acted,
    ConsoleAction,
    ConsolePage,
    ConsoleRequest,
    NotDone,
    View,
)
from gateway.identity.keys.key_ring import KeyState
from gateway.identity.keys.rotation import KeyRotation, RotatedKey
from gateway.identity.keys.signing_keys import WrongSecret
from gateway.model import ChangeKind

KEYS = "/admin/keys"
_SHOWN = 100


class KeysPage:
    def __init__(self, rotation: KeyRotation) -> None:
        self._rotation = rotation

    def pages(self) -> Sequence[ConsolePage]:
        return [
            ConsolePage(
                KEYS,
                "Signing keys",
                self.show,
                actions={
                    "rotate": ConsoleAction(self.rotate),
                    "revoke": ConsoleAction(self.revoke),
                },
                notices={
                    "rotated": "The next key signs; the one before it verifies on.",
                    "scheduled": "The next key signs as soon as nobody can hold a JWKS without it.",
                    "revoked": "The key is refused, and so is every token that it signed.",
                },
            )
        ]

    async def show(self, request: ConsoleRequest) -> View:
        rows = await self._rotation.listing()
        live = [row for row in rows if row.state is not KeyState.GONE]
        gone = [row for row in rows if row.state is KeyState.GONE]
        shown = [*reversed(live), *reversed(gone)][:_SHOWN]
        return View("keys.html", {"keys": shown, "key_count": len(rows)})

    async def rotate(self, request: ConsoleRequest) -> Acted | NotDone:
        def record(rotated: RotatedKey) -> None:
            kid = rotated.active
            request.record(operator_event(AuditKind.KEY_CHANGED, None, "rotated", kid=kid))

        try:
            outcome = await self._rotation.rotate(on_rotated=record)
        except WrongSecret as error:
            return NotDone(f"{error}.")
        if isinstance(outcome, RotatedKey):
            return Acted((), notice="rotated", confirmed=outcome.confirmed)
        event = operator_event(AuditKind.KEY_CHANGED, None, "rotation requested")
        return Acted([event], notice="scheduled")

    async def revoke(self, request: ConsoleRequest) -> Acted | NotDone:
        kid = request.form.get("kid", "")
        if request.form.get("confirm-kid", "").strip() != kid:
            return NotDone("Type the kid of the key, and it is refused with all that it signed.")
        if kid not in {row.kid for row in await self._rotation.listing()}:
            return NotDone("There is no key with this kid.")
        event = operator_event(AuditKind.KEY_CHANGED, None, "revoked", kid=kid)
        caller = request.operator.caller
        ends_own = caller is not None and caller.kid == kid
        try:
            with ending(*([ChangeKind.KEY] if ends_own else [])):
                outcome = await self._rotation.revoke(
                    kid, on_revoked=lambda _: request.record(event)
                )
        except WrongSecret as error:
            return NotDone(f"{error}.")
        assert outcome is not None
        return Acted((), notice="revoked", confirmed=outcome.confirmed)
