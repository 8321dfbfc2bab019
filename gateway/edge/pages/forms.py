"""What the pages with forms share: what they stand on, and a form that is shown again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.edge.endpoints.endpoint import JsonReply, PageReply, ProblemReply, leads_to
from gateway.edge.pages.problems import headers_of, shown, status_of
from gateway.edge.pages.renderer import Page, PageRenderer
from gateway.edge.pages.texts import Catalogue
from gateway.edge.pages.visits import Visit, Visits
from gateway.edge.replies.cookies import expired_cookie
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.sign_in.return_targets import ReturnTargets

DONE = frozenset(
    ("verified", "reset", "signed-out", "registered", "email-changed", "deleted", "too-late")
)
"""What has just been done, as `?done=` may say."""


@dataclass(frozen=True, slots=True)
class PageDependencies:
    """What every page stands on."""

    visits: Visits
    renderer: PageRenderer
    catalogue: Catalogue
    return_targets: ReturnTargets
    registration_rules: RegistrationRules
    password_min_length: int
    passkey_host: str | None
    """Where passkeys can be asked for; None for nowhere."""

    def location(self, visit: Visit, return_to: str | None) -> str:
        """Where `?return_to=` leads; `/` where it is none."""
        return self.return_targets.location(return_to or "", visit.call.host)

    def asked(self, visit: Visit, return_to: str | None) -> tuple[str, ...]:
        """How who comes back must have signed in (`amr`), as `?return_to=` says."""
        target = self.return_targets.open(return_to or "", visit.call.host)
        return () if target is None or target.asked is None else target.asked.amr

    def show(self, visit: Visit, page: Page, refusal: ProblemReply | None = None) -> PageReply:
        """The page; with a refusal it says what was wrong with the form that was sent."""
        problem = None
        if refusal is not None:
            problem = shown(self.catalogue.texts_for(visit.call), refusal)
            page = replace(
                page,
                status=status_of(refusal.reason),
                reason=refusal.reason,
                headers={**page.headers, **headers_of(refusal, visit.request_id)},
                cookies=(
                    *page.cookies,
                    *refusal.cookies,
                    *expired_cookie(visit.call, refusal.reason),
                ),
            )
        values: Mapping[str, Any] = {"problem": problem, **page.values}
        return self.renderer.render(visit.call, replace(page, values=values))

    def sign_in_page(self, done: str) -> JsonReply:
        """Leads there, and says what has been done."""
        return leads_to(f"{self.renderer.path('sign-in')}?done={done}")
