"""Pages out of templates: escaped, in the visitor's language, under a policy that lets nothing else
run (docs/pages.md).

Law: a script or a style counts only with the nonce of this one answer, nothing of another host is
loaded, no other page frames this one, and a template that names what it is not given fails.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment

from gateway.access.routing.own_paths import OwnPaths
from gateway.edge.endpoints.endpoint import PageReply
from gateway.edge.pages.assets import Assets
from gateway.edge.pages.texts import Catalogue
from gateway.model import Call, Reason

_HEADERS = {
    # Not `no-referrer`: with that a form's `Origin` is `null` (Fetch, section 3.2), which proves
    # nothing.  The path, which may hold the token of a link, is told to nobody.
    "Referrer-Policy": "strict-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Page:
    """What is shown: a template and its values."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    reason: Reason | None = None
    cookies: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    scripts: tuple[str, ...] = ()
    """Names of assets."""
    leads_away: bool = False
    """Whether what follows the form may lead to another host: browsers judge the whole chain of
    redirects by `form-action`."""


class PageRenderer:
    def __init__(
        self,
        environment: Environment,
        catalogue: Catalogue,
        assets: Assets,
        own_paths: OwnPaths,
        *,
        site: str,
        https: bool,
    ) -> None:
        """`https`: browsers reach the gateway over TLS, and are led nowhere else."""
        self._environment = environment
        self._catalogue = catalogue
        self._own_paths = own_paths
        self._site = site
        self._away = "https:" if https else "http: https:"
        self._asset_paths = {n: self.path("assets", asset) for n, asset in assets.names.items()}
        logos = [path for n, path in self._asset_paths.items() if n.startswith("logo.")]
        self._logo = logos[0] if logos else None

    def render(self, call: Call, page: Page) -> PageReply:
        texts = self._catalogue.texts_for(call)
        nonce = secrets.token_urlsafe(_NONCE_BYTES)
        document = self._environment.get_template(page.template).render(
            t=texts,
            lang=texts.language,
            nonce=nonce,
            site=self._site,
            path=self.path,
            endpoint=self._own_paths.endpoint,
            logo=self._logo,
            assets=self._asset_paths,
            scripts=[self._asset_paths[name] for name in page.scripts],
            **page.values,
        )
        headers = {
            **_HEADERS,
            "Content-Security-Policy": self._policy(page, nonce),
            "Content-Language": texts.language,
            **page.headers,
        }
        return PageReply(
            page.status, document.encode(), headers, cookies=page.cookies, reason=page.reason
        )

    def path(self, *name: str) -> str:
        """Of a page."""
        return self._own_paths.endpoint("ui", *name)

    def _policy(self, page: Page, nonce: str) -> str:
        rules = [
            "default-src 'none'",
            f"style-src 'nonce-{nonce}'",
            "img-src 'self'",
            f"form-action 'self' {self._away}" if page.leads_away else "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
        if page.scripts:
            rules += [f"script-src 'nonce-{nonce}'", "connect-src 'self'"]
        return "; ".join(rules)
