"""Odd access tokens of other issuers, signed by a stock JWT library of another language (jose, from
npm), and issuers that publish what is not to be believed: each is refused with its reason."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import ready, until
from tests.examples.backends import INSTALLED, express_lacks

OWN = "https://own.example.com"
SIGN = """\
import * as jose from 'jose'
const [base, OWN] = process.argv.slice(1)
const now = Math.floor(Date.now() / 1000)
const pair = (alg = 'RS256') => jose.generateKeyPair(alg, { extractable: true })
const own = await pair(), theirs = await pair(), others = await pair(), twice = await pair(), short = await pair('ES256')
const ownKid = await jose.calculateJwkThumbprint(await jose.exportJWK(own.publicKey))
const jwk = async ({ publicKey }, kid, more = {}) =>
  ({ ...(await jose.exportJWK(publicKey)), kid, alg: 'RS256', use: 'sig', ...more })
const pem = new TextEncoder().encode(await jose.exportSPKI(theirs.publicKey))

// `company` publishes a key under our own kid as well.
const keys = [await jwk(theirs, 'rs'), await jwk(others, ownKid)]
const documents = {
  company: keys,
  people: keys,
  other: [await jwk(others, 'rs')],
  symmetric: [{ kty: 'oct', kid: 'rs', k: jose.base64url.encode('a secret of 256 bits, as it seems') }],
  private: [...keys, { ...(await jose.exportJWK(twice.privateKey)), kid: 'p', alg: 'RS256' }],
  duplicate: [await jwk(theirs, 'rs'), await jwk(twice, 'rs')],
  oversized: [await jwk(theirs, 'rs', { x5t: 'a'.repeat(300_000) })],
  many: await Promise.all(Array.from({ length: 1000 }, (_, n) => jwk(short, `k${n}`, { alg: 'ES256' }))),
  renamed: keys,
}

const key = { [ownKid]: own.privateKey, rs: theirs.privateKey }
const sign = (claims = {}, header = {}, by) => {
  const protectedHeader = { alg: 'RS256', typ: 'at+jwt', kid: 'rs', ...header }
  const payload = { iss: `${base}/company`, aud: 'api', sub: 'ann', iat: now, exp: now + 3600, jti: 'j', ...claims }
  return new jose.SignJWT(payload).setProtectedHeader(protectedHeader)
    .sign(by ?? key[protectedHeader.kid] ?? theirs.privateKey)
}
const ours = { iss: OWN, aud: OWN, sub: 'ann', exp: now + 900, sid: 's', client_id: 'c', roles: [], user_id: 'ann',
  amr: ['pwd'], auth_time: now }
const asOurs = { kid: ownKid }
const idToken = { aud: 'api', nonce: 'n', at_hash: 'h', exp: now + 300 }
const people = { iss: `${base}/people` }

console.log(JSON.stringify({
  documents, ownKey: await jose.exportPKCS8(own.privateKey),
  good: {
    plain: await sign(),
    list: await sign({ aud: ['account', 'api'] }),
    leewayNotBefore: await sign({ nbf: now + 290 }),
    leewayAhead: await sign({ iat: now + 290 }),
    leewayOver: await sign({ iat: now - 900, exp: now - 60 }),
    ours: await sign(ours, asOurs),
    idWhereWanted: await sign({ ...people, ...idToken }, { typ: 'JWT' }),
  },
  bad: {
    theirKeyWithOurKid: await sign(ours, asOurs, others.privateKey),
    oursOfUnknownIssuer: await sign({ ...ours, iss: 'https://unknown.example.com' }, asOurs),
    oursOfForeignIssuer: await sign({ ...ours, iss: `${base}/company` }, asOurs),
    theirsByOurKey: await sign({}, asOurs),
    theirsByOurKeyAsTheirs: await sign({}, {}, own.privateKey),
    byAnotherIssuersKey: await sign({}, {}, others.privateKey),
    issuerWithASlash: await sign({ iss: `${base}/company/` }),
    unknownKid: await sign({}, { kid: 'gone' }),
    idToken: await sign(idToken, { typ: 'JWT' }),
    accessWhereIdIsWanted: await sign({ ...people, scope: 'orders:read' }, { typ: 'JWT' }),
    accessTypWhereIdIsWanted: await sign({ ...people, ...idToken }),
    logoutToken: await sign({ events: { 'http://schemas.openid.net/event/backchannel-logout': {} } }),
    logoutTyp: await sign({}, { typ: 'logout+jwt' }),
    noAudience: await sign({ aud: undefined }),
    anotherClients: await sign({ aud: 'web' }),
    listWithoutUs: await sign({ aud: ['web', 'account'] }),
    notBefore: await sign({ nbf: now + 900 }),
    ahead: await sign({ iat: now + 900, exp: now + 1000 }),
    over: await sign({ iat: now - 900, exp: now - 301 }),
    livesTooLong: await sign({ exp: now + 3601 }),
    noExpiry: await sign({ exp: undefined }),
    symmetric: await sign({}, { alg: 'HS256' }, pem),
    notTakenAlgorithm: await sign({}, { alg: 'PS256' },
      await jose.importPKCS8(await jose.exportPKCS8(theirs.privateKey), 'PS256')),
    bringsAKey: await sign({}, { jwk: await jose.exportJWK(others.publicKey) }, others.privateKey),
    unsecured: new jose.UnsecuredJWT({ iss: `${base}/company`, aud: 'api', sub: 'ann', iat: now })
      .setExpirationTime('1h').encode(),
    spoilt: Object.fromEntries(await Promise.all(
      Object.keys(documents).map(async (name) => [name, await sign({ iss: `${base}/${name}` })]))),
    hanging: await sign({ iss: `${base}/hanging` }),
  },
}))
"""
BAD = {
    "theirKeyWithOurKid": "token_signature_invalid",
    "oursOfUnknownIssuer": "token_claims_invalid",
    "oursOfForeignIssuer": "token_signature_invalid",
    "theirsByOurKey": "token_signature_invalid",
    "theirsByOurKeyAsTheirs": "token_signature_invalid",
    "byAnotherIssuersKey": "token_signature_invalid",
    "issuerWithASlash": "key_unknown",
    "unknownKid": "key_unknown",
    "idToken": "token_claims_invalid",
    "accessWhereIdIsWanted": "token_claims_invalid",
    "accessTypWhereIdIsWanted": "token_claims_invalid",
    "logoutToken": "token_claims_invalid",
    "logoutTyp": "token_claims_invalid",
    "noAudience": "token_claims_invalid",
    "anotherClients": "token_claims_invalid",
    "listWithoutUs": "token_claims_invalid",
    "notBefore": "token_claims_invalid",
    "ahead": "token_claims_invalid",
    "over": "token_expired",
    "livesTooLong": "token_claims_invalid",
    "noExpiry": "token_claims_invalid",
    "symmetric": "token_signature_invalid",
    "notTakenAlgorithm": "token_signature_invalid",
    "bringsAKey": "token_malformed",
    "unsecured": "token_malformed",
}
SPOILT = {
    "symmetric": "the key set holds no key that can be used",
    "private": "shows the private half of key p",
    "duplicate": "names two keys rs",
    "oversized": "more than 256 KiB",
    "many": "has 1000 keys; 100 are the most",
    "renamed": "is of the issuer https://elsewhere.example.com",
}
GOOD = ["plain", "list", "leewayNotBefore", "leewayAhead", "leewayOver", "ours", "idWhereWanted"]
ISSUERS = ["company", "people", "other", *SPOILT, "hanging"]


def routes(base: str) -> str:
    blocks = [
        f'  {name}: {{{{issuer: "{base}/{name}", audience: api, leeway: 5m, max_life: 1h'
        f"{', token: id' if name == 'people' else ''}}}}}\n"
        for name in ISSUERS
    ]
    return (
        "version: 1\nissuers:\n"
        + "".join(blocks)
        + 'upstreams: {{echo: {{targets: ["http://127.0.0.1:{port}"]}}}}\n'
        + f"routes: [{{{{id: me, match: {{{{path: /me}}}}, issuers: [own, {', '.join(ISSUERS)}], "
        "policy: signed-in, upstream: echo}}]\n"
    )


class Issuers(ThreadingHTTPServer):
    """`/NAME` is an issuer.  `hanging` answers nobody until `go_on` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        issuers = self
        self.documents: Mapping[str, Any] = {}
        self.go_on = threading.Event()
        self.hangs = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.split("/")[1]
                if name == "hanging":
                    issuers.hangs.set()
                    issuers.go_on.wait()
                    return
                body = json.dumps(issuers.answer(name, self.path)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, name: str, path: str) -> dict[str, Any]:
        if path.endswith("/keys"):
            return {"keys": self.documents[name]}
        called = "https://elsewhere.example.com" if name == "renamed" else f"{self.url}/{name}"
        return {"issuer": called, "jwks_uri": f"{self.url}/{name}/keys"}


@dataclass
class Site:
    gateway: Running
    issuers: Issuers
    good: dict[str, str]
    bad: dict[str, Any]

    def told(self, token: str) -> tuple[int, str]:
        answer = self.gateway.call("GET", "/me", token=token)
        return answer.status, "" if answer.status == 200 else str(answer.reason)

    def state(self, issuer: str) -> dict[str, Any]:
        return dict(ready(self.gateway)["workers"][0]["issuers"][issuer])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if lacks := express_lacks():
        pytest.skip(f"jose is not here: {lacks}")
    folder: Path = tmp_path_factory.mktemp("odd-tokens")
    issuers = Issuers()
    threading.Thread(target=issuers.serve_forever, args=(0.05,), daemon=True).start()
    done = subprocess.run(
        ["node", "--input-type=module", "-e", SIGN, issuers.url, OWN],
        cwd=INSTALLED, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    made = json.loads(done.stdout)
    issuers.documents = made["documents"]
    pem = folder / "own.pem"
    pem.write_text(made["ownKey"])
    own = {"GATEWAY_ISSUER": OWN, "GATEWAY_AUDIENCE": OWN}
    try:
        with started(folder / "g", routes=routes(issuers.url), **own) as running:
            imported = running.confirmed("keys", "import", str(pem), "--verify-only")
            assert imported.returncode == 0, imported.stderr
            there = Site(running, issuers, made["good"], made["bad"])
            until(lambda: there.state("company")["keys"] == 2, 60)
            until(lambda: there.told(there.good["ours"]) == (200, ""), 60)
            yield there
    finally:
        issuers.go_on.set()
        issuers.shutdown()
        issuers.server_close()


@pytest.mark.parametrize("name", GOOD)
def test_a_token_at_the_edge_of_what_is_good_is_taken(site: Site, name: str) -> None:
    assert site.told(site.good[name]) == (200, "")


@pytest.mark.parametrize("name", BAD)
def test_an_odd_token_is_refused_with_its_reason(site: Site, name: str) -> None:
    assert site.told(site.bad[name]) == (401, BAD[name])
    assert site.told(site.good["plain"]) == (200, "")


@pytest.mark.parametrize("issuer", SPOILT)
def test_keys_that_are_not_to_be_believed_verify_nothing(site: Site, issuer: str) -> None:
    assert site.told(site.bad["spoilt"][issuer]) == (503, "issuer_unavailable")
    assert (site.state(issuer)["keys"], SPOILT[issuer] in site.state(issuer)["error"]) == (0, True)


def test_nobody_waits_for_a_provider_that_never_answers_but_who_needs_it(site: Site) -> None:
    until(site.issuers.hangs.is_set, 60)
    answers: list[tuple[int, str]] = []
    needs_it = threading.Thread(target=lambda: answers.append(site.told(site.bad["hanging"])))
    needs_it.start()
    before_it = 0
    while not answers:
        assert site.told(site.good["plain"]) == (200, "")
        assert site.told(site.bad["byAnotherIssuersKey"])[0] == 401
        before_it += not answers
    # One that waited for the same would be answered with it.
    assert before_it >= 3
    needs_it.join()
    assert answers == [(503, "issuer_unavailable")]
