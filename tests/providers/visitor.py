"""Somebody with a browser at a provider: cookies, forms and redirects, over plain HTTP."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urljoin, urlsplit

TIMEOUT_S = 15.0
_FORM = re.compile(r'<form[^>]* action="([^"]+)"[^>]*>(.*?)</form>', re.S)
_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')


@dataclass
class Fetched:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def fetch(
    url: str,
    body: bytes | None = None,
    fields: Mapping[str, str] | None = None,
    *,
    method: str | None = None,
) -> Fetched:
    """One answer, whatever its status; redirects are not followed.  With a body it is a POST,
    where no other method is named."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    headers = dict(fields or {})
    if body is not None:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        method = method or ("GET" if body is None else "POST")
        connection.request(method, target or "/", body, headers)
        answer = connection.getresponse()
        return Fetched(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


SECRET = "a secret of tests alone"


def post_as(url: str, client_id: str, words: Mapping[str, str], *, secret: str = SECRET) -> Fetched:
    """A form from a client that proves who it is (client_secret_basic)."""
    pair = ":".join(quote(one, safe="") for one in (client_id, secret))
    fields = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return fetch(url, urlencode(words).encode(), fields)


@dataclass
class Visitor:
    issuer: str
    cookies: dict[str, str] = field(default_factory=dict)

    def sign_in(
        self,
        client_id: str,
        redirect_uri: str,
        account: str,
        *,
        secret: str = SECRET,
        **words: str,
    ) -> dict[str, Any]:
        """The tokens of a client in which the account signed in (code flow with PKCE).

        `words` are further parameters, as `scope` and `resource`.
        """
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        question = {
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": "openid",
            "code_challenge": challenge.decode().rstrip("="),
            "code_challenge_method": "S256",
            **words,
        }
        back = self.authorize(f"{self.issuer}/auth?{urlencode(question)}", account)
        answer = parse_qs(urlsplit(back).query)
        assert "code" in answer, back
        wanted = {
            "grant_type": "authorization_code",
            "code": answer["code"][0],
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        if "resource" in words:
            wanted["resource"] = words["resource"]
        done = post_as(f"{self.issuer}/token", client_id, wanted, secret=secret)
        assert done.status == 200, (done.status, done.body)
        return dict(done.json)

    def authorize(self, url: str, account: str) -> str:
        """From a client's authorization request to the URL to which the provider sends back.

        Signs in as the account where it is asked to, and consents to everything.
        """
        for _ in range(20):
            if not url.startswith(f"{self.issuer}/"):
                return url
            page = self._fetch(url)
            if page.status in (302, 303):
                url = urljoin(url, page.headers["Location"])
                continue
            assert page.status == 200, (page.status, page.body)
            action, words = _form(page)
            if words.get("prompt") == "login":
                words |= {"login": account, "password": "any"}
            answer = self._fetch(urljoin(url, action), words)
            assert answer.status in (302, 303), (answer.status, answer.body)
            url = urljoin(url, answer.headers["Location"])
        raise AssertionError(f"sent back and forth, last to {url}")

    def sign_out(self, id_token: str | None = None) -> None:
        """Ends the session at the provider, which then tells the clients' back channels."""
        hint = f"?{urlencode({'id_token_hint': id_token})}" if id_token else ""
        page = self._fetch(f"{self.issuer}/session/end{hint}")
        assert page.status == 200, (page.status, page.body)
        action, words = _form(page)
        answer = self._fetch(action, words | {"logout": "yes"})
        assert answer.status == 303, (answer.status, answer.body)

    def _fetch(self, url: str, words: Mapping[str, str] | None = None) -> Fetched:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        fields = {"Cookie": cookies} if cookies else {}
        page = fetch(url, None if words is None else urlencode(words).encode(), fields)
        for line in page.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                if morsel.value:
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)
        return page


def _form(page: Fetched) -> tuple[str, dict[str, str]]:
    """Where the page's form goes, and its hidden fields."""
    form = _FORM.search(page.body.decode())
    assert form, page.body
    return form[1], dict(_HIDDEN.findall(form[2]))


def main(issuer: str, account: str, url: str) -> None:
    """In place of a browser: signs in where the page asks for it, and goes where it is sent."""
    fetch(Visitor(issuer).authorize(url, account))


if __name__ == "__main__":
    main(*sys.argv[1:])
