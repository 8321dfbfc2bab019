"""The OpenAPI text is true of calls that succeed: who is invited registers, makes and ends a key,
and takes the sign-in to another host.

What `test_openapi.py` makes up has no invitation, no key of its own and no code.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import jsonschema_rs
import pyotp
import pytest

from gateway.identity.factors.totp import STEP_S
from tests.contract.running import Running, started
from tests.contract.test_openapi import DOCUMENT

LOGIN, ONE = "login.apps.example", "one.apps.example"
ROUTES = f"""\
version: 1
session: {{{{domain: apps.example}}}}
issuers: {{{{idp: {{{{issuer: "http://127.0.0.1:9", audience: api}}}}}}}}
upstreams:
  echo: {{{{targets: ["http://127.0.0.1:{{port}}"]}}}}
routes:
  - {{{{id: one, match: {{{{host: {ONE}, path: /}}}}, policy: signed-in, upstream: echo}}}}
  - id: tools
    match: {{{{path: /tools}}}}
    policy: signed-in
    upstream: echo
    issuers: [idp]
    resource_server: {{{{scopes: [call], name: Tools, documentation: "https://docs.example/"}}}}
"""
CHECKED = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
EMAIL, PASSWORD = "ada@example.com", "correct horse 7 battery"
ORIGIN = {"Origin": f"https://{LOGIN}"}
NAVIGATION = {
    "Sec-Fetch-Site": "same-site",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}


@dataclass
class Site:
    """A gateway for the invited alone, behind a proxy that ends TLS."""

    running: Running
    operations: dict[tuple[str, str], Any]

    def ask(
        self,
        method: str,
        path: str,
        status: int,
        *,
        body: Any = None,
        query: dict[str, str] | None = None,
        ids: dict[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer of `status`: the text takes the call, and names all that comes back."""
        # Here and not above: every process of pytest-xdist would import it.
        from schemathesis.checks import CHECKS

        described = DOCUMENT["paths"][path][method]
        if body is not None:
            content = described["requestBody"]["content"]["application/json"]["schema"]
            schema = {**content, "components": DOCUMENT["components"]}
            jsonschema_rs.validator_for(schema).validate(body)
        parameters = {one["name"] for one in described.get("parameters", ())}
        assert parameters >= {*(query or {}), *(ids or {})}
        operation = self.operations[(path, method)]
        more = {"body": body, "media_type": "application/json"} if body is not None else {}
        case = operation.Case(query=query or {}, path_parameters=ids or {}, **more)
        headers = {"Host": LOGIN, "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
        headers |= fields or {}
        answer = case.call(headers=headers, allow_redirects=False, timeout=60)
        assert answer.status_code == status, answer.text
        case.validate_response(answer, checks=CHECKS.get_by_names(CHECKED))
        if "set-cookie" in answer.headers:
            assert "Set-Cookie" in described["responses"][str(status)]["headers"]
        return answer

    def sign_in(self, **more: str) -> Any:
        body = {"email": EMAIL, "password": PASSWORD, **more}
        return self.ask("post", "/auth/login", 200, body=body, fields=ORIGIN)


def led_to(answer: Any) -> SplitResult:
    (location,) = answer.headers["location"]
    return urlsplit(str(location))


def cookie(answer: Any, name: str) -> str:
    (line,) = [one for one in answer.headers["set-cookie"] if one.startswith(f"{name}=")]
    return str(line).partition(";")[0].removeprefix(f"{name}=")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    from tests.contract.openapi_text import operations_of

    folder: Path = tmp_path_factory.mktemp("good-calls") / "g"
    with started(
        folder,
        routes=ROUTES,
        GATEWAY_PUBLIC_URL=f"https://{LOGIN}",
        GATEWAY_KEY_SECRET="3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=",
        GATEWAY_TRUSTED_PROXIES="127.0.0.1/32",
        GATEWAY_REGISTRATION="invited",
        GATEWAY_EMAIL_VERIFICATION="optional",
    ) as running:
        operations = operations_of(DOCUMENT, running.port)
        made = running.cli(
            "users", "create", EMAIL, "--verified", "--password-stdin", stdin=PASSWORD
        )
        assert made.returncode == 0, made.stderr
        yield Site(running, operations)


def test_who_is_invited_registers(site: Site) -> None:
    done = site.running.cli("users", "invite", "bea@example.com", "--no-mail", "--json")
    assert done.returncode == 0, done.stderr
    bea = {"email": "bea@example.com", "password": PASSWORD}
    body = {**bea, "invitation": json.loads(done.stdout)["token"]}
    made = site.ask("post", "/auth/register", 201, body=body, fields=ORIGIN)
    assert made.json()["email"] == "bea@example.com"
    for refused in (body, bea):
        answer = site.ask("post", "/auth/register", 403, body=refused, fields=ORIGIN)
        assert answer.json()["reason"] == "registration_closed"


def test_a_resource_has_its_metadata(site: Site) -> None:
    path = "/.well-known/oauth-protected-resource/{resource}"
    answer = site.ask("get", path, 200, ids={"resource": "tools"})
    assert answer.json()["resource"] == f"https://{LOGIN}/tools"
    site.ask("get", path, 404, ids={"resource": "other"})


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": "laptop"},
        {"name": "Büro, 日本", "roles": [], "scopes": ["a:*"], "routes": ["one"], "expires_in": 60},
    ],
)
def test_a_key_is_made_listed_and_ended(site: Site, wanted: dict[str, Any]) -> None:
    mine = {"Authorization": f"Bearer {site.sign_in().json()['access_token']}"}
    made = site.ask("post", "/auth/keys", 201, body=wanted, fields=mine).json()
    assert {name: made[name] for name in wanted if name != "expires_in"} == {
        name: value for name, value in wanted.items() if name != "expires_in"
    }
    listed = site.ask("get", "/auth/keys", 200, fields=mine).json()["keys"]
    assert made["key_id"] in {key["key_id"] for key in listed}
    ids = {"key_id": made["key_id"]}
    site.ask("delete", "/auth/keys/{key_id}", 204, ids=ids, fields=mine)
    site.ask("delete", "/auth/keys/{key_id}", 404, ids={"key_id": "pkey-none"}, fields=mine)


def test_a_second_factor_is_enrolled_and_asked_for(site: Site) -> None:
    mine = {"Authorization": f"Bearer {site.sign_in().json()['access_token']}"}
    secret = site.ask("post", "/auth/factors/totp", 200, fields=mine).json()["secret"]

    def code(steps: int) -> str:
        return pyotp.TOTP(secret).generate_otp(int(time.time()) // STEP_S + steps)

    # Of the next step as well: the one of the last is out should a step begin before it is read.
    confirm = {"code": code(0)}
    done = site.ask("post", "/auth/factors/totp/confirm", 200, body=confirm, fields=mine).json()
    fresh = {"Authorization": f"Bearer {done['access_token']}"}
    asked = site.ask("post", "/auth/login", 401, body={"email": EMAIL, "password": PASSWORD}).json()
    second = {"mfa_token": asked["mfa_token"], "code": code(1)}
    site.ask("post", "/auth/login/factor", 200, body=second)
    site.ask("post", "/auth/login/factor", 401, body=second)
    recovery = {"code": done["recovery_codes"][0]}
    site.ask("post", "/auth/step-up", 200, body=recovery, fields=fresh)
    site.ask("post", "/auth/step-up", 401, body={}, fields=fresh)
    assert site.ask("get", "/auth/factors", 200, fields=fresh).json()["recovery_codes_left"] == 9
    site.ask("post", "/auth/factors/recovery-codes", 200, fields=fresh)
    site.ask("delete", "/auth/factors/totp", 204, fields=fresh)
    site.ask("delete", "/auth/factors/totp", 404, fields=fresh)


def test_a_sign_in_is_handed_over(site: Site) -> None:
    signed_in = site.sign_in(transport="cookie")
    session = cookie(signed_in, "__Host-session")
    there = {"Host": ONE, **NAVIGATION}
    asked = site.ask(
        "get", "/auth/hand-over/start", 303, query={"return_to": "/?a=b"}, fields=there
    )
    browser = cookie(asked, "__Host-hand-over")
    request = parse_qs(led_to(asked).query)["request"][0]
    here = {**NAVIGATION, "Cookie": f"__Host-session={session}"}
    given = site.ask("get", "/auth/hand-over", 303, query={"request": request}, fields=here)
    where = led_to(given)
    assert (where.netloc, where.path) == (ONE, "/auth/hand-over/accept")
    code = {"code": parse_qs(where.query)["code"][0]}
    there["Cookie"] = f"__Host-hand-over={browser}"
    taken = site.ask("get", "/auth/hand-over/accept", 303, query=code, fields=there)
    assert led_to(taken).geturl() == "/?a=b"
    assert cookie(taken, "__Host-session") != session

    again = site.ask("get", "/auth/hand-over/accept", 400, query=code, fields=there)
    assert again.json()["reason"] == "invalid_token"
    site.ask("get", "/auth/hand-over", 401, query={"request": request}, fields=NAVIGATION)
    site.ask("get", "/auth/hand-over/start", 404, fields=NAVIGATION)
