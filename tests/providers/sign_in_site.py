"""A gateway of two workers at which people sign in by two real providers, as their browsers do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from jwt.algorithms import ECAlgorithm

from gateway.app.data_dir import DataFolder
from tests.contract.running import Running, started
from tests.e2e.processes import until
from tests.ports import free_port
from tests.providers import oidc_provider
from tests.providers.browser import Browser
from tests.providers.oidc_provider import OidcProvider, Setup, application
from tests.providers.visitor import SECRET, Fetched, fetch

ROUTES = """\
version: 1
providers:
  company:
    label: Example Inc.
    issuer: {issuer}
    client_id: gateway
    client_secret: {{{{secret: company}}}}
    scopes: [openid, email, groups]
    roles: "has(claims.groups) ? claims.groups : []"
    trust_email: true
    accounts: create
    backchannel_logout: true
    after_sign_out: {public}/bye
  other:
    issuer: {other}
    client_id: gateway
    private_key: {{{{secret: other-key, alg: ES256, kid: k1}}}}
    form_post: true
    domains: [example.com]
    groups: [staff]
    scopes: [openid, email, groups]
upstreams:
  echo: {{{{targets: ["http://127.0.0.1:{{port}}"]}}}}
routes:
  - {{{{id: me, match: {{{{path: /me}}}}, policy: signed-in, sign_in: page, upstream: echo}}}}
"""
ACCOUNTS = {"ada": {"email": "ada@example.com", "email_verified": True, "groups": ["staff"]}}
PASSWORD = "correct horse 7 battery"


@dataclass
class Site:
    gateway: Running
    provider: OidcProvider
    other: OidcProvider
    origin: str

    def browser(self) -> Browser:
        return Browser(self.origin, (self.provider.issuer, self.other.issuer))

    def create(self, email: str, *words: str) -> None:
        done = self.gateway.cli(
            "users", "create", email, "--password-stdin", *words, stdin=PASSWORD
        )
        assert done.returncode == 0, done.stderr

    def account(self, email: str) -> Any:
        done = self.gateway.cli("users", "show", email, "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def login(self, email: str) -> int:
        """With the password, by a program."""
        body = json.dumps({"email": email, "password": PASSWORD}).encode()
        return fetch(f"{self.origin}/auth/login", body, {"Content-Type": "application/json"}).status

    def login_in(self, browser: Browser, email: str) -> None:
        words = {"email": email, "password": PASSWORD, "transport": "cookie"}
        answer = browser.call("POST", "/auth/login", words)
        assert answer.status == 200, answer.body

    def link_mailed_to(self, email: str) -> str:
        """The token of the newest link in the outbox, which the admin page shows."""
        token = DataFolder(self.gateway.folder / "data").admin_token()
        until(lambda: self._mail(email, token) is not None, 60)
        return str(self._mail(email, token))

    def _mail(self, email: str, token: str) -> str | None:
        answer = self.gateway.admin("/admin/api/outbox", ("Authorization", f"Bearer {token}"))
        for mail in answer.json["mails"]:
            found = re.search(r"token=([A-Za-z0-9_-]+)", mail["text"])
            if mail["to"] == email and found:
                return found[1]
        return None

    def audit(self) -> list[dict[str, Any]]:
        done = self.gateway.cli("audit", "tail", "--json", "-n", "500")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def opened(folder: Path, **of_client: Any) -> Iterator[Site]:
    """`of_client` are more metadata of the gateway as the client of `company`."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    setup = Setup(
        clients=(
            application(
                "gateway",
                f"{origin}/auth/providers/company/callback",
                backchannel_logout_uri=f"{origin}/auth/providers/company/backchannel-logout",
                post_logout_redirect_uris=[f"{origin}/bye"],
                **of_client,
            ),
        ),
        accounts=ACCOUNTS,
    )
    key = ec.generate_private_key(ec.SECP256R1())
    public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    by_key = Setup(
        clients=(
            application(
                "gateway",
                f"{origin}/auth/providers/other/callback",
                token_endpoint_auth_method="private_key_jwt",
                jwks={"keys": [{**public, "kid": "k1", "use": "sig"}]},
            ),
        ),
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with (
        oidc_provider.started(folder / "provider", setup) as provider,
        oidc_provider.started(folder / "other", by_key) as other,
    ):
        routes = ROUTES.format(issuer=provider.issuer, other=other.issuer, public=origin)
        own = {
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_PUBLIC_URL": origin,
            "GATEWAY_EMAIL_VERIFICATION": "required",
            "GATEWAY_SECRET_COMPANY": SECRET,
            "GATEWAY_SECRET_OTHER_KEY": pem.decode().strip(),
        }
        with started(folder / "g", "--workers", "2", routes=routes, **own) as running:
            running.port = port
            yield Site(running, provider, other, origin)


BACK = "/auth/providers/company/callback"


def start(site: Site, browser: Browser, name: str = "company", account: str = "ada") -> str:
    """The URL by which the provider sends the browser back, which is not opened."""
    url, _ = browser.go(
        f"{site.origin}/auth/providers/{name}/start",
        account,
        stop_at=f"{site.origin}/auth/providers/{name}/callback",
    )
    return url


def refused(page: Fetched) -> tuple[int, str]:
    """The page of a refusal: its status, and what it says."""
    assert page.headers["Content-Type"].startswith("text/html"), page.body
    found = re.search(r"<h1>.*?</h1>\s*<p>(.*?)</p>", page.body.decode(), re.S)
    assert found, page.body
    # The other ways are one click away.
    assert b'href="/auth/ui/sign-in"' in page.body
    return page.status, found[1]
