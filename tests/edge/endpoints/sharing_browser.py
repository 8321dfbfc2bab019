"""A browser of several hosts that share a sign-in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from tests.edge.auth_house import CREDENTIALS, House, request
from tests.edge.rig import Answer

GATE, APP1, APP2 = "gate.example", "app1.example", "app2.example"
APART = "blog.example"
NAVIGATION = ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
SAME = "Sec-Fetch-Site: same-origin"


@dataclass
class Browser:
    """Keeps the cookies of each host, and follows nothing by itself."""

    house: House
    jar: dict[str, dict[str, str]] = field(default_factory=dict)

    async def get(self, url: str, headers: Sequence[str] = NAVIGATION) -> Answer:
        parts = urlsplit(url)
        host = parts.hostname or ""
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        cookies = "; ".join(f"{name}={value}" for name, value in self.jar.get(host, {}).items())
        sent = [*headers, *([f"Cookie: {cookies}"] if cookies else [])]
        answer = await self.house.raw(request("GET", target, b"", headers=sent, host=host))
        self._keep(host, answer)
        return answer

    async def sign_in(self, host: str = GATE) -> None:
        body = json.dumps({**CREDENTIALS, "transport": "cookie"}).encode()
        answer = await self.house.raw(
            request("POST", "/auth/login", body, headers=[SAME], host=host)
        )
        assert answer.status == 200, answer.body
        self._keep(host, answer)

    async def code_for(self, host: str, return_to: str = "/page?x=1") -> str:
        """The URL at which the host takes a code; the browser has been led there."""
        started = await self.get(
            f"https://{host}/auth/hand-over/start?return_to={quote(return_to, safe='')}"
        )
        assert started.status == 303, started.body
        issued = await self.get(leads_to(started))
        assert issued.status == 303, issued.body
        return leads_to(issued)

    def _keep(self, host: str, answer: Answer) -> None:
        for line in answer.values("set-cookie"):
            name, _, value = line.split(b";")[0].decode().partition("=")
            if b"Max-Age=0" in line:
                self.jar.get(host, {}).pop(name, None)
            else:
                self.jar.setdefault(host, {})[name] = value


def leads_to(answer: Answer) -> str:
    (location,) = answer.values("location")
    return location.decode()


async def me(browser: Browser, host: str) -> Answer:
    return await browser.get(f"https://{host}/auth/me", headers=[SAME])
