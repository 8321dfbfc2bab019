"""What another issuer tells of ends, signed by a stock JWT library of another language (jose, from
npm): each odd token is refused with its reason, and the OpenAPI text names every answer."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import jsonschema_rs
import pytest

from tests.contract.answers import Answer
from tests.contract.running import Running, started
from tests.contract.test_openapi import DOCUMENT
from tests.e2e.processes import until
from tests.examples.backends import INSTALLED, express_lacks

SIGN = """\
import * as jose from 'jose'
const now = Math.floor(Date.now() / 1000)
const ISSUER = 'https://id.example.com/realms/main'
const LOGOUT = 'http://schemas.openid.net/event/backchannel-logout'
const CAEP = 'https://schemas.openid.net/secevent/caep/event-type/'
const RISC = 'https://schemas.openid.net/secevent/risc/event-type/'
const kinds = { rs: 'RS256', es: 'ES256', ps: 'PS256', other: 'RS256' }
const pairs = {}
for (const [kid, alg] of Object.entries(kinds))
  pairs[kid] = await jose.generateKeyPair(alg, { extractable: true })
const keys = []
for (const kid of ['rs', 'es', 'ps'])
  keys.push({ ...(await jose.exportJWK(pairs[kid].publicKey)), kid, alg: kinds[kid], use: 'sig' })
const pem = new TextEncoder().encode(await jose.exportSPKI(pairs.rs.publicKey))

let jti = 0
const sign = (claims, header = {}, key) => {
  const protectedHeader = { alg: kinds[header.kid ?? 'rs'], kid: 'rs', ...header }
  const payload = { iss: ISSUER, aud: 'shop', iat: now, jti: `j${jti++}`, ...claims }
  return new jose.SignJWT(payload)
    .setProtectedHeader(protectedHeader)
    .sign(key ?? pairs[protectedHeader.kid].privateKey)
}
const access = (sub, sid) =>
  sign({ sub, ...(sid && { sid }), aud: 'api', exp: now + 600 }, { typ: 'at+jwt' })
const logout = (claims, header = {}, key) =>
  sign({ sub: 'ann', sid: 's-1', exp: now + 120, events: { [LOGOUT]: {} }, ...claims },
    { typ: 'logout+jwt', ...header }, key)
const event = (events, claims = {}, header = {}, key) =>
  sign({ aud: ['x', 'shop'], sub_id: { format: 'iss_sub', iss: ISSUER, sub: 'bob' }, events, ...claims },
    { typ: 'secevent+jwt', ...header }, key)
const revoked = { [CAEP + 'session-revoked']: {} }
const claims = { iss: ISSUER, aud: 'shop', iat: now, jti: 'u', sub: 'ann', events: { [LOGOUT]: {} } }

console.log(JSON.stringify({
  keys,
  access: {
    ann: await access('ann', 's-1'), annOther: await access('ann', 's-2'),
    annNone: await access('ann'), bob: await access('bob', 's-3'), cyd: await access('cyd', 's-4'),
    dan: await access('dan', 's-5'),
  },
  logout: {
    good: await logout({}),
    ofDan: await logout({ sub: 'dan', sid: undefined }, { typ: 'JWT', kid: 'es' }),
    withNonce: await logout({ nonce: 'n' }),
    withoutEvents: await logout({ events: undefined }),
    eventsNull: await logout({ events: { [LOGOUT]: null } }),
    withoutNames: await logout({ sub: undefined, sid: undefined }),
    withoutJti: await logout({ jti: undefined }),
    stale: await logout({ iat: now - 400, exp: now + 60 }),
    expired: await logout({ exp: now - 60 }),
    ahead: await logout({ iat: now + 120 }),
    anotherAudience: await logout({ aud: 'web' }),
    listWithoutUs: await logout({ aud: ['web', 'app'] }),
    anotherIssuer: await logout({ iss: ISSUER + '/' }),
    accessTyp: await logout({}, { typ: 'at+jwt' }),
    foreignKey: await logout({}, {}, pairs.other.privateKey),
    unknownKid: await logout({}, { kid: 'gone', alg: 'RS256' }, pairs.other.privateKey),
    algorithmNotTaken: await logout({}, { kid: 'ps' }),
    symmetric: await logout({}, { alg: 'HS256' }, pem),
    unsecured: new jose.UnsecuredJWT(claims).encode(),
    encrypted: await new jose.EncryptJWT(claims)
      .setProtectedHeader({ alg: 'RSA-OAEP-256', enc: 'A256GCM', kid: 'rs' })
      .encrypt((await jose.generateKeyPair('RSA-OAEP-256')).publicKey),
    accessToken: await access('ann', 's-1'),
    securityEvent: await event(revoked),
  },
  events: {
    good: await event(revoked),
    purged: await event({ [RISC + 'account-purged']: {
      subject: { subject_type: 'iss-sub', iss: ISSUER, sub: 'cyd' } } }, { sub_id: undefined }),
    unknownType: await event({ 'https://schemas.openid.net/secevent/ssf/event-type/verification': {} }),
    anotherIssuersSubject: await event(revoked, { sub_id: { format: 'iss_sub', iss: 'https://x', sub: 'ann' } }),
    anEmail: await event(revoked, { sub_id: { format: 'email', email: 'bob@example.com' } }),
    noSubject: await event(revoked, { sub_id: undefined }),
    noEvents: await event(undefined),
    plainTyp: await event(revoked, {}, { typ: 'JWT' }),
    anotherIssuer: await event(revoked, { iss: 'https://id.example.com' }),
    anotherAudience: await event(revoked, { aud: 'web' }),
    foreignKey: await event(revoked, {}, {}, pairs.other.privateKey),
    unknownKid: await event(revoked, {}, { kid: 'gone', alg: 'RS256' }, pairs.other.privateKey),
    logoutToken: await logout({}),
  },
}))
"""
ROUTES = """\
version: 1
issuers:
  company:
    issuer: https://id.example.com/realms/main
    jwks_uri: http://127.0.0.1:{keys}/keys
    audience: api
    algorithms: [RS256, ES256]
    backchannel_logout: true
    events: true
    event_audience: [shop, web-shop]
  silent:
    issuer: https://silent.example.com
    jwks_uri: http://127.0.0.1:{keys}/keys
    audience: api
upstreams:
  echo: {{{{targets: ["http://127.0.0.1:{{port}}"]}}}}
routes:
  - {{{{id: me, match: {{{{path: /me}}}}, issuers: [company, silent], policy: signed-in, upstream: echo}}}}
"""
LOGOUT = "/auth/issuers/{issuer}/backchannel-logout"
EVENTS = "/auth/issuers/{issuer}/events"
BAD_LOGOUT_TOKENS = [
    "withNonce",
    "withoutEvents",
    "eventsNull",
    "withoutNames",
    "withoutJti",
    "stale",
    "expired",
    "ahead",
    "anotherAudience",
    "listWithoutUs",
    "anotherIssuer",
    "accessTyp",
    "foreignKey",
    "unknownKid",
    "algorithmNotTaken",
    "symmetric",
    "unsecured",
    "encrypted",
    "accessToken",
    "securityEvent",
]
BAD_EVENTS = {
    "anEmail": "invalid_request",
    "noSubject": "invalid_request",
    "noEvents": "invalid_request",
    "plainTyp": "invalid_request",
    "logoutToken": "invalid_request",
    "anotherIssuer": "invalid_issuer",
    "anotherAudience": "invalid_audience",
    "foreignKey": "authentication_failed",
    "unknownKid": "invalid_key",
}


@dataclass
class Site:
    gateway: Running
    tokens: dict[str, dict[str, str]]

    def call(self, name: str) -> Answer:
        return self.gateway.call("GET", "/me", token=self.tokens["access"][name])

    def logout(self, token: str, issuer: str = "company") -> Answer:
        body = urlencode({"logout_token": token}).encode()
        kind = ("Content-Type", "application/x-www-form-urlencoded")
        path = LOGOUT.format(issuer=issuer)
        return self._described(LOGOUT, self.gateway.call("POST", path, kind, body=body))

    def event(self, token: str, issuer: str = "company") -> Answer:
        kind = ("Content-Type", "application/secevent+jwt")
        path = EVENTS.format(issuer=issuer)
        return self._described(EVENTS, self.gateway.call("POST", path, kind, body=token.encode()))

    def _described(self, path: str, answer: Answer) -> Answer:
        """The OpenAPI text has this answer."""
        described = DOCUMENT["paths"][path]["post"]["responses"][str(answer.status)]
        if "$ref" in described:
            described = DOCUMENT["components"]["responses"][described["$ref"].rpartition("/")[2]]
        for name in described["headers"]:
            assert answer.get(name.lower()) is not None, name
        if not answer.body:
            assert "content" not in described
            return answer
        content = described["content"][answer.get("content-type")]["schema"]
        schema = {**content, "components": DOCUMENT["components"]}
        jsonschema_rs.validator_for(schema).validate(answer.json)
        return answer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if lacks := express_lacks():
        pytest.skip(f"jose is not here: {lacks}")
    done = subprocess.run(
        ["node", "--input-type=module", "-e", SIGN],
        cwd=INSTALLED, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    tokens = json.loads(done.stdout)
    document = json.dumps({"keys": tokens.pop("keys")}).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder: Path = tmp_path_factory.mktemp("issuer-ends") / "g"
    try:
        with started(folder, routes=ROUTES.format(keys=server.server_address[1])) as running:
            yield Site(running, tokens)
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", BAD_LOGOUT_TOKENS)
def test_a_logout_token_that_is_none_ends_nothing(site: Site, name: str) -> None:
    answer = site.logout(site.tokens["logout"][name])
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert answer.get("cache-control") == "no-store"
    assert site.call("annOther").status == 200


@pytest.mark.parametrize("name", BAD_EVENTS)
def test_an_event_that_is_none_ends_nothing(site: Site, name: str) -> None:
    answer = site.event(site.tokens["events"][name])
    assert (answer.status, answer.json["err"]) == (400, BAD_EVENTS[name])
    assert site.call("annOther").status == 200


def test_a_logout_token_ends_its_session_and_no_other(site: Site) -> None:
    assert site.call("ann").status == site.call("annNone").status == 200
    answer = site.logout(site.tokens["logout"]["good"])
    assert (answer.status, answer.body) == (200, b"")
    for name in ("ann", "annNone"):
        refused = site.call(name)
        assert (refused.status, refused.json["reason"]) == (401, "token_revoked")
    assert site.call("annOther").status == 200
    again = site.logout(site.tokens["logout"]["good"])
    assert (again.status, again.json["error"]) == (400, "invalid_request")


def test_a_logout_token_without_a_session_ends_all_of_its_subject(site: Site) -> None:
    assert site.call("dan").status == 200
    assert site.logout(site.tokens["logout"]["ofDan"]).status == 200
    assert site.call("dan").status == 401


@pytest.mark.parametrize(("event", "whose"), [("good", "bob"), ("purged", "cyd")])
def test_an_event_ends_what_its_subject_has(site: Site, event: str, whose: str) -> None:
    assert site.call(whose).status == 200
    for _ in range(2):
        answer = site.event(site.tokens["events"][event])
        assert (answer.status, answer.body) == (202, b"")
        assert site.call(whose).status == 401


@pytest.mark.parametrize("name", ["unknownType", "anotherIssuersSubject"])
def test_an_event_of_nobody_here_is_taken_and_ends_nothing(site: Site, name: str) -> None:
    assert site.event(site.tokens["events"][name]).status == 202
    assert site.call("annOther").status == 200


@pytest.mark.parametrize("kind", ["logout", "events"])
def test_neither_is_an_access_token(site: Site, kind: str) -> None:
    refused = site.gateway.call("GET", "/me", token=site.tokens[kind]["good"])
    assert (refused.status, refused.json["reason"]) == (401, "token_claims_invalid")


@pytest.mark.parametrize("issuer", ["silent", "nobody", "own"])
def test_an_issuer_whose_switches_are_off_is_not_there(site: Site, issuer: str) -> None:
    for answer in (
        site.logout(site.tokens["logout"]["withNonce"], issuer),
        site.event(site.tokens["events"]["noEvents"], issuer),
    ):
        assert (answer.status, answer.json["reason"]) == (404, "route_unknown")


def test_an_event_of_a_megabyte_is_not_read(site: Site) -> None:
    answer = site.event("a" * 1_000_000)
    assert (answer.status, answer.json["reason"]) == (413, "body_too_large")


def test_an_end_is_in_the_audit_log_with_who_told_of_it(site: Site) -> None:
    assert site.event(site.tokens["events"]["good"]).status == 202

    def recorded() -> bool:
        done = site.gateway.cli("audit", "tail", "--all", "--json")
        told = [json.loads(line) for line in done.stdout.splitlines()]
        ends = [one for one in told if one.get("actor") == "issuer:company"]
        return ("revoked", "company:bob", "session-revoked") in [
            (one["event"], one["subject"], one["detail"]["change"]) for one in ends
        ]

    until(recorded, 60)
