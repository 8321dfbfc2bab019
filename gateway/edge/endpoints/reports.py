"""What others tell of ends, taken once each: a logout token, a security event.

Law: success is answered when every live worker refuses what has ended; until then 503, which a
provider repeats.  A repeated report ends nothing more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from gateway.access.issuers import Issuer
from gateway.edge.endpoints.endpoint import JsonReply, ProblemReply, Reply
from gateway.edge.endpoints.form_body import MalformedForm, read_form
from gateway.identity.issuers.event_tokens import EventToken
from gateway.model import Change, Reason
from gateway.stores.protocols import (
    Deliveries,
    DeliveryState,
    RevocationPublisher,
    StoreUnavailable,
)

LOGOUT = "backchannel-logout"
LOGOUT_KEPT_S = 1_200
"""Longer than a logout token is believed: five minutes and twice the longest leeway."""


@dataclass(frozen=True, slots=True)
class EndReport:
    """A verified token and how it is answered."""

    issuer: Issuer
    endpoint: str
    token: EventToken
    kept_s: int
    """For so long its `jti` is remembered."""
    taken: Reply
    repeated: Reply

    @property
    def key(self) -> str:
        # Under another name nothing of it holds yet: what ends is named by the issuer's.
        named = "\x00".join((self.issuer.name, self.issuer.issuer, self.token.token_id))
        return f"{self.endpoint}:{hashlib.sha256(named.encode()).hexdigest()}"


class EndReports:
    def __init__(
        self,
        deliveries: Deliveries,
        publisher: RevocationPublisher,
        count: Callable[[str, str], None],
    ) -> None:
        """`count` counts a report of an issuer by its outcome."""
        self._deliveries = deliveries
        self._publisher = publisher
        self._count = count

    async def take(
        self, report: EndReport, record: Callable[[], Awaitable[Sequence[Change]]]
    ) -> Reply:
        """Have every live worker know what `record` writes, once for each `jti`."""
        name = report.issuer.name
        delivery = await self._deliveries.begin(report.key)
        if delivery.state is DeliveryState.DONE:
            self._count(name, "repeated")
            return report.repeated
        confirmed = False
        try:
            if delivery.state is DeliveryState.FIRST:
                confirmed = await self._publisher.publish(await record())
        finally:
            # Whoever is told 503 repeats it, and must be heard then; the rows are there already,
            # and are written once.
            with suppress(StoreUnavailable):
                if confirmed:
                    await self._deliveries.finish(delivery, report.kept_s)
                else:
                    await self._deliveries.withdraw(delivery)
        self._count(name, "taken" if confirmed else "pending")
        return report.taken if confirmed else ProblemReply(Reason.REVOCATION_PENDING)


def logout_report(issuer: Issuer, token: EventToken, endpoint: str = LOGOUT) -> EndReport:
    """Section 2.6 lets a logout token that was taken before be refused."""
    repeated = logout_error("this logout token was taken before")
    return EndReport(issuer, endpoint, token, LOGOUT_KEPT_S, JsonReply(200), repeated)


async def read_logout_token(request: web.BaseRequest) -> str | JsonReply | ProblemReply:
    """Section 2.5: one of a form."""
    form = await read_form(request)
    if isinstance(form, ProblemReply):
        return form
    if isinstance(form, MalformedForm):
        if form.another_type:
            return ProblemReply(Reason.MEDIA_TYPE_UNSUPPORTED)
        return logout_error(form.description)
    return form.get("logout_token") or logout_error("logout_token is missing")


def logout_error(description: str) -> JsonReply:
    """Back-Channel Logout section 2.8, RFC 6749 section 5.2."""
    return JsonReply(400, {"error": "invalid_request", "error_description": description})
