"""`issuers:` of routes.yaml: what is read of it, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.access.issuers import (
    ABSENT,
    SUBJECT,
    ClaimPath,
    Introspection,
    Issuer,
    RequiredClaim,
    TokenUse,
)
from gateway.access.secret_text import SecretText
from gateway.access.snapshot import Snapshot
from gateway.config import introspection, issuers, resource_server
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.secrets import SecretFiles
from tests.config.issuer_texts import MINIMAL, block, compiled, issuer, problems, refused


def test_an_issuer_needs_its_iss_and_an_audience() -> None:
    one = issuer("")
    assert (one.name, one.issuer, one.audience) == (
        "idp", "https://id.example.com/realms/main", ("api",),
    )  # fmt: skip
    assert one == Issuer("idp", "https://id.example.com/realms/main", ("api",))


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("s3cr3t\n")
    one = issuer(
        """
        algorithms: [ES256, EdDSA]
        typ: [application/at+JWT, absent]
        subject: claims.oid
        roles: claims.realm_access.roles
        email: claims["https://example.com/email"]
        email_verified: claims.xms_edov == '1'
        require: {azp: [shop, web], claims.realm.level: 2, "https://example.com/ok": true}
        leeway: 5m
        max_life: 2h
        discovery: https://id.internal/metadata?realm=main
        jwks_uri: http://127.0.0.1:8000/keys
        ca: /etc/ssl/idp.pem
        max_stale: 1h
        introspection:
          client_id: gateway
          client_secret: {secret: shop}
          endpoint: https://id.internal/introspect
          cache: 30s
        backchannel_logout: true
        events: true
        event_audience: [gateway]
        """,
        secrets=SecretFiles(tmp_path),
    )
    assert one.algorithms == ("ES256", "EdDSA")
    assert one.typ == ("at+jwt", ABSENT)
    assert one.subject == ClaimPath("claims.oid", ("oid",))
    assert one.roles == ClaimPath("claims.realm_access.roles", ("realm_access", "roles"))
    assert one.email is not None
    assert one.email.read({"https://example.com/email": "a@b.example"}) == "a@b.example"
    assert one.email_verified is not None
    assert one.email_verified.read({"xms_edov": "1"}) is True
    assert one.require == (
        RequiredClaim(ClaimPath("azp", ("azp",)), ("shop", "web")),
        RequiredClaim(ClaimPath("claims.realm.level", ("realm", "level")), (2,)),
        RequiredClaim(ClaimPath("https://example.com/ok", ("https://example.com/ok",)), (True,)),
    )
    assert (one.leeway_s, one.max_life_s, one.max_stale_s) == (300, 7_200, 3_600)
    assert one.discovery == "https://id.internal/metadata?realm=main"
    assert one.jwks_uri == "http://127.0.0.1:8000/keys"
    assert one.ca == "/etc/ssl/idp.pem"
    assert one.introspection == Introspection(
        "gateway", SecretText("s3cr3t"), None, "https://id.internal/introspect", 30
    )
    assert one.backchannel_logout
    assert one.events
    assert one.event_audience == ("gateway",)
    assert "s3cr3t" not in repr(one)


def test_what_is_left_out_has_its_default() -> None:
    one = issuer("")
    assert one.algorithms == ("RS256",)
    assert one.typ == ("at+jwt", "jwt")
    assert one.subject == SUBJECT
    assert (one.leeway_s, one.max_stale_s, one.max_life_s) == (10, 86_400, None)
    assert one.email is None
    assert one.email_verified is None
    assert one.introspection is None


def test_an_address_by_path_is_verified_where_the_claim_beside_it_says_so() -> None:
    by_path = issuer("email: claims.email").email_verified
    assert by_path == ClaimPath("claims.email_verified", ("email_verified",))
    assert issuer("email: claims.upn + '@example.com'").email_verified is None


def test_whom_a_token_is_for_may_stand_in_another_claim_and_be_an_id_token() -> None:
    one = issuer("audience_claim: client_id\ntoken: id")
    assert one.audience_claim.read({"aud": "x", "client_id": "api"}) == "api"
    assert one.use is TokenUse.ID
    ordinary = issuer("")
    assert ordinary.audience_claim.read({"aud": ["api"]}) == ["api"]
    assert ordinary.use is TokenUse.ACCESS


@pytest.mark.parametrize("written", ["sub", "claims.sub", "claims['sub']"])
def test_the_subject_is_a_claim_by_name_or_path(written: str) -> None:
    assert issuer(f'subject: "{written}"').subject.read({"sub": "u1"}) == "u1"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("audiences: api", "6:5: unknown key `audiences` in issuer `idp`; did you mean `audience`?"),
        ("algorithms: [HS256]", "`HS256` is symmetric"),
        ("algorithms: hs512", "`hs512` is symmetric"),
        ("algorithms: [none]", "`none` is no signature"),
        ("algorithms: [RS265]", "`algorithms` cannot hold `RS265`; did you mean `RS256`?"),
        ("algorithms: []", "`algorithms` is empty"),
        ("typ: []", "`typ` is empty"),
        ("typ: [a b]", "`a b` is no `typ`"),
        ("typ: logout+jwt", "a logout token ends sessions"),
        ("typ: application/secevent+JWT", "an event gives access to nothing"),
        ("subject: claims.a + claims.b", "`subject` is one claim"),
        ("subject: claims", "`subject` is one claim"),
        ("audience_claim: claims.a + 'x'", "`audience_claim` is one claim, such as `aud`"),
        ("token: refresh", "`token` cannot be `refresh`; there is `access`, `id`"),
        ("roles: groups", "`groups` is not known here"),
        ("roles: [admin]", "`roles` is one value"),
        ("email: claims.a +", "not a CEL expression"),
        ("{email: claims.email, email_verified: \"'yes'\"}", "not true or false"),
        ("email_verified: claims.v", "`email_verified` needs `email`"),
        ("require: {azp: {a: b}}", "name what is inside it by its path, such as `claims.azp.roles`"),
        ("require: {azp: []}", "`azp` is empty"),
        ("require: {azp: [[a]]}", "a value of `azp` is a text, a number, true or false"),
        ("require: {azp: null}", "a value of `azp` is a text"),
        ("require: {claims.a + 'b': c}", "is no path such as"),
        ("leeway: 301s", "`leeway` is whole seconds, `5m` at most"),
        ("leeway: 500ms", "`leeway` is whole seconds"),
        ("leeway: 10", "`leeway` needs a unit"),
        ("max_life: 0s", "`max_life` is a duration"),
        ("ca: idp.pem", "`ca` is the whole path of a PEM file"),
        ("discovery: http://id.example.com/x", "anybody on the way could answer"),
        ("jwks_uri: http://127.0.0.1.example.com/x", "anybody on the way could answer"),
        ("jwks_uri: https://a:b@id.example.com/x", "holds a user or a password"),
        ("jwks_uri: https://id.example.com/x#y", "has a fragment"),
        ("jwks_uri: ftp://id.example.com/x", "is no URL"),
        ("jwks_uri: https://id.example.com:99999/x", "is no URL"),
        ("jwks_uri: http://id.localhost/x", "anybody on the way could answer"),
        ("jwks_uri: 'https://id\"x.example/'", "is no URL"),
        ("jwks_uri: https:///x", "is no URL"),
        ("jwks_uri: HTTPS://id.example.com/x", "is no URL"),
        ("event_audience: a", "needs `backchannel_logout: true` or `events: true`"),
        ("backchannel_logout: yes", "write true"),
        ("introspection: {client_secret: {secret: a}}", "`introspection` has no `client_id:`"),
        ("introspection: {client_id: a}", "has one of `client_secret: {secret: NAME}`"),
        ("introspection: {client_id: a, client_secret: {secret: a}}", "there is no secret `a`"),
        ("introspection: {client_id: a, client_secret: {secret: a/b}}", "the name of a secret is"),
        ("introspection: {client_id: a, client_secret: {}}", "`client_secret` has no `secret: NAME`"),
        ("introspection: {client_id: a, client_secret: plain}", "`client_secret` is a block"),
        ("introspection: {client_id: a, private_key: {secret: a}}", "`private_key` has no `alg: RS256`"),
        ("introspection: {client_id: a, private_key: {secret: a, alg: HS256}}", "`alg` cannot be"),
        ("introspection: {client_id: a, private_key: {secret: a, alg: RS256}}", "no secret `a`"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_what_would_be_right(keys: str, said: str) -> None:
    if keys.startswith("{"):
        keys = "\n".join(keys.strip("{}").split(", "))
    found = problems(block(f"{MINIMAL}\n{keys}"))
    assert any(said in one for one in found), found
    assert all(one.startswith("routes.yaml:") for one in found)


def test_cache_is_thirty_seconds_at_most(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("s")
    for cache in ("31s", "1500ms"):
        keys = f"introspection: {{client_id: a, client_secret: {{secret: a}}, cache: {cache}}}"
        assert "`cache` is whole seconds, `30s` at most" in refused(
            keys, secrets=SecretFiles(tmp_path)
        )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://id.example.com", "anybody on the way could answer: `https://…`"),
        ("https://id.example.com/?a=b", "has a query"),
        ("https://id.example.com/#a", "has a fragment"),
        ("id.example.com", "is no URL"),
        ("https://id.example.com/ä", "is no URL"),
    ],
)
def test_an_iss_is_an_https_url(url: str, said: str) -> None:
    found = problems(block(f'issuer: "{url}"\naudience: api'))
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize("url", ["http://localhost:8080/r", "http://127.0.0.1:1", "http://[::1]:1"])
def test_on_this_machine_an_iss_may_be_http(url: str) -> None:
    found = compiled(block(f'issuer: "{url}"\naudience: api'))
    assert isinstance(found, Snapshot)


def test_what_must_be_there_is_asked_for() -> None:
    no_audience = problems(block("issuer: https://id.example.com"))
    assert no_audience == [
        "routes.yaml:3:3: issuer `idp` has no `audience:`: without it the token of any of its "
        "clients would do"
    ]
    assert "issuer `idp` has no `issuer: https://…`" in problems(block("audience: api"))[0]
    assert "`audience` is empty" in problems(block("issuer: https://i.example\naudience: []"))[0]
    spaced = problems(block('issuer: https://i.example\naudience: "a b"'))
    assert "an entry of `audience` is visible ASCII" in spaced[0]


@pytest.mark.parametrize("name", ["Idp", "1a", "a_b", "a:b", "a" * 33, "a.b"])
def test_a_name_can_begin_the_id_of_a_user(name: str) -> None:
    text = f'issuers: {{"{name}": {{issuer: https://i.example, audience: a}}}}\nroutes: []\n'
    found = problems(text)
    assert len(found) == 1
    assert "the name of an issuer is a lower-case letter" in found[0]


def test_own_is_taken() -> None:
    text = "issuers: {own: {issuer: https://i.example, audience: a}}\nroutes: []\n"
    assert "`own` is this gateway itself" in problems(text)[0]


def test_two_issuers_have_two_isses() -> None:
    text = """
        issuers:
          one: {issuer: https://i.example, audience: a}
          two: {issuer: https://i.example, audience: b}
        routes: []
        """
    assert problems(text) == [
        "routes.yaml:5:17: `https://i.example` is the `issuer` of `one` already: a token names "
        "one, and is judged by one"
    ]


def test_our_own_iss_is_of_no_other() -> None:
    found = problems(
        block("issuer: https://gw.example.com\naudience: a"), own_issuer="https://gw.example.com"
    )
    assert len(found) == 1
    assert "is this gateway itself (GATEWAY_ISSUER)" in found[0]


# The page for operators

PAGE = Path(__file__).parent.parent.parent / "docs" / "issuers.md"


def test_the_first_configuration_of_the_page_is_ten_lines_and_loads() -> None:
    text = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[0]
    assert text.count("\n") <= 10
    found = compile_snapshot(Sources(("routes.yaml", text)))
    assert isinstance(found, Snapshot), found
    assert found.notices == ()
    assert set(found.issuers) == {"keycloak"}


def test_the_page_has_every_key() -> None:
    named: set[str] = set()
    for row in re.findall(
        r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", PAGE.read_text("utf-8"), re.MULTILINE
    ):
        named |= set(re.findall(r"`([a-z_]+)`", row))
    keys = {*issuers.ISSUER_KEYS, *introspection.INTROSPECTION_KEYS}
    assert keys | set(resource_server.RESOURCE_SERVER_KEYS) <= named


def test_the_schema_has_every_key() -> None:
    path = PAGE.parent.parent / "gateway" / "schemas" / "routes.json"
    schema = json.loads(path.read_text("utf-8"))["properties"]
    block = schema["issuers"]["additionalProperties"]
    asked = block["properties"]["introspection"]
    resource = schema["defaults"]["properties"]["resource_server"]["anyOf"][1]
    for found, keys in (
        (block, issuers.ISSUER_KEYS),
        (asked, introspection.INTROSPECTION_KEYS),
        (asked["properties"]["client_secret"], introspection.CLIENT_SECRET_KEYS),
        (asked["properties"]["private_key"], introspection.PRIVATE_KEY_KEYS),
        (resource, resource_server.RESOURCE_SERVER_KEYS),
    ):
        assert set(found["properties"]) == set(keys)
        assert found["additionalProperties"] is False
