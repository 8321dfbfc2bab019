"""A browser that visits the gateway and a provider: cookies of each, redirects, forms, and what
a browser says of a navigation.  `SameSite=Lax` is kept to, as the rest of it stands on that."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from tests.providers.visitor import Fetched, fetch

MOST_STEPS = 25
_FORM = re.compile(r'<form[^>]* action="([^"]+)"[^>]*>(.*?)</form>', re.S)
_INPUT = re.compile(r'<input [^>]*name="([^"]+)"[^>]*value="([^"]*)"')


@dataclass
class Browser:
    gateway: str
    """Its origin."""
    providers: tuple[str, ...]
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)
    """By the origin that set them."""
    visited: list[str] = field(default_factory=list)

    def open(
        self, url: str, *, form: Mapping[str, str] | None = None, come_from: str | None = None
    ) -> Fetched:
        """One navigation; redirects are not followed.  `come_from` is the origin that makes it."""
        origin = _origin(url)
        is_same = come_from in (None, origin)
        fields = {
            "Accept": "text/html,*/*;q=0.8",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
            "Sec-Fetch-Site": "none"
            if come_from is None
            else "same-origin"
            if is_same
            else "cross-site",
        }
        if form is not None:
            fields["Origin"] = come_from or origin
        kept = self.cookies.get(origin, {})
        if kept and (is_same or form is None):
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in kept.items())
        body = None if form is None else urlencode(form).encode()
        page = fetch(url, body, fields)
        self.visited.append(url)
        self._keep(origin, page)
        return page

    def go(self, url: str, account: str, *, stop_at: str | None = None) -> tuple[str, Fetched]:
        """To where it ends, signing in as the account where the provider asks: the URL and the
        page.  `stop_at` is the beginning of a URL that is not opened any more."""
        come_from: str | None = None
        form: dict[str, str] | None = None
        for _ in range(MOST_STEPS):
            if stop_at is not None and url.startswith(stop_at):
                return url, Fetched(0, None, b"")  # type: ignore[arg-type]
            page = self.open(url, form=form, come_from=come_from)
            form, here = None, _origin(url)
            if page.status in (302, 303):
                url = urljoin(url, page.headers["Location"])
                come_from = come_from if come_from is not None else here
                continue
            found = _FORM.search(page.body.decode()) if here in self.providers else None
            if page.status != 200 or found is None:
                return url, page
            come_from, url = here, urljoin(url, html.unescape(found[1]))
            form = {name: html.unescape(value) for name, value in _INPUT.findall(found[2])}
            if form.get("prompt") == "login":
                form |= {"login": account, "password": "any"}
            if "xsrf" in form and "logout" not in form:
                form["logout"] = "yes"
        raise AssertionError(f"sent back and forth, last to {url}")

    def sign_in(self, name: str, account: str, *, return_to: str = "") -> tuple[str, Fetched]:
        """By the button of the provider `name`."""
        query = f"?{urlencode({'return_to': return_to})}" if return_to else ""
        return self.go(f"{self.gateway}/auth/providers/{name}/start{query}", account)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Fetched:
        """By a script of a page of the gateway."""
        kept = self.cookies.get(self.gateway, {})
        fields = {
            "Sec-Fetch-Site": "same-origin",
            "Cookie": "; ".join(f"{name}={value}" for name, value in kept.items()),
        }
        raw = None
        if body is not None:
            raw, fields["Content-Type"] = json.dumps(body).encode(), "application/json"
        page = fetch(f"{self.gateway}{path}", raw, fields, method=method)
        self._keep(self.gateway, page)
        return page

    def me(self) -> Any:
        """Who is signed in here; None where nobody is."""
        answer = self.call("GET", "/auth/me")
        return answer.json if answer.status == 200 else None

    def _keep(self, origin: str, page: Fetched) -> None:
        kept = self.cookies.setdefault(origin, {})
        for line in page.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                if morsel.value and morsel["max-age"] != "0":
                    kept[name] = morsel.value
                else:
                    kept.pop(name, None)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
