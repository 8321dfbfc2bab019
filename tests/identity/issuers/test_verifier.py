"""What a token of another issuer must be, claim by claim, and whom it then speaks of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwk, jwt

from gateway.access.issuers import (
    ABSENT,
    ClaimError,
    ClaimPath,
    Issuer,
    RequiredClaim,
    TokenUse,
)
from gateway.identity.issuers.jwk_set import read_jwk_set
from gateway.identity.issuers.verifier import IssuerVerifier, read_foreign_token
from gateway.model import Principal, Reason
from tests.identity.issuers.provider import (
    AUDIENCE,
    CLAIMS,
    URL,
    Signer,
    document,
    issuer,
    path,
    signer,
)
from tests.identity.keyring import MAX_LIFE_S, START, HandClock

Judge = Callable[..., Principal | Reason]
KEY = signer("ES256")


@pytest.fixture
def judged(clock: HandClock) -> Judge:
    """The verdict on a token with these claims over CLAIMS; `...` leaves one out."""

    def judge(
        of: Issuer | None = None,
        header: dict[str, Any] | None = None,
        key: Signer = KEY,
        **claims: Any,
    ) -> Principal | Reason:
        return verdict(of or issuer(), clock, key.token(header=header, **claims))

    return judge


def verdict(
    of: Issuer, clock: HandClock, text: str, *paths: str, key: Signer = KEY
) -> Principal | Reason:
    token = read_foreign_token(text, {of.issuer: of.name})
    assert token is not None
    verifier = IssuerVerifier(
        of, max_life_s=MAX_LIFE_S, now=clock.now, resource_paths={of.name: frozenset(paths)}
    )
    return verifier.verify(token, read_jwk_set(document(key)).keys[key.kid])


def accepted(verdict: Principal | Reason) -> Principal:
    assert isinstance(verdict, Principal), verdict
    return verdict


# Whom it speaks of


def test_every_name_of_another_issuer_begins_with_its_own(judged: Judge) -> None:
    principal = accepted(judged())
    assert principal.subject == "company:alice"
    assert principal.session_id == "company:s-1"
    assert principal.token_id == "company:t-1"
    assert principal.client_id == "company:shop"
    assert principal.kid == "company:k-1"
    assert principal.issuer == "company"


def test_the_rest_of_a_token_is_read_as_it_stands(judged: Judge) -> None:
    principal = accepted(judged())
    assert principal.roles == ("viewer", "orders:read")
    assert (principal.email, principal.email_verified) == ("alice@example.com", True)
    assert (principal.issued_at, principal.auth_time) == (START, START - 60)
    assert (principal.amr, principal.audience) == (("pwd",), (AUDIENCE,))
    assert principal.granted_scopes == ("openid", "orders:read")
    assert principal.claims["realm_access"] == {"roles": ["viewer", "orders:read"]}
    assert principal.resource_only is False


def test_a_token_needs_little(judged: Judge) -> None:
    left_out = ("sid", "azp", "scope", "realm_access", "email", "email_verified", "auth_time")
    principal = accepted(judged(**dict.fromkeys((*left_out, "amr", "jti"), ...)))
    assert (principal.session_id, principal.client_id) == (None, None)
    assert (principal.roles, principal.email, principal.email_verified) == ((), None, False)
    assert (principal.amr, principal.auth_time) == ((), None)


def test_a_token_without_jti_is_known_by_what_was_signed(judged: Judge) -> None:
    one, again, other = (accepted(judged(jti=..., sub=sub)).token_id for sub in ("a", "a", "b"))
    assert one == again != other
    assert one.startswith("company:")
    assert len(one) == len("company:") + 43


@pytest.mark.parametrize(
    "sub",
    ["auth0|5f7c8ec7c33c6c004bbafe82", "system:serviceaccount:ns:name", "a/b,c<d>", "x" * 255],
)
def test_subjects_as_others_write_them_are_taken(judged: Judge, sub: str) -> None:
    assert accepted(judged(sub=sub)).subject == f"company:{sub}"


@pytest.mark.parametrize(
    "value", ["", " ", "a b", "a\n", "a\x00", "a\x7f", "é", "x" * 256, 7, True, None, ["a"], {}]
)
@pytest.mark.parametrize("name", ["sub", "sid", "jti"])
def test_a_name_that_is_not_of_visible_letters_is_refused(
    judged: Judge, name: str, value: Any
) -> None:
    assert judged(**{name: value}) is Reason.TOKEN_CLAIMS_INVALID


def test_a_token_without_subject_is_refused(judged: Judge) -> None:
    assert judged(sub=...) is Reason.TOKEN_CLAIMS_INVALID


def test_another_claim_may_be_the_subject(judged: Judge) -> None:
    assert accepted(judged(issuer(subject=path("claims.oid")), oid="o-1")).subject == "company:o-1"
    assert judged(issuer(subject=path("claims.oid"))) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize(
    ("claims", "client"),
    [
        ({"client_id": "c", "azp": "a"}, "company:c"),
        ({"azp": ..., "appid": "e"}, "company:e"),
        ({"azp": ..., "cid": "o"}, "company:o"),
        ({"azp": "a b"}, None),
        ({"azp": ["a"]}, None),
    ],
)
def test_a_client_is_named_in_several_ways(
    judged: Judge, claims: dict[str, Any], client: str | None
) -> None:
    assert accepted(judged(**claims)).client_id == client


@pytest.mark.parametrize(
    ("roles", "taken"),
    [
        (["viewer", "viewer"], ("viewer",)),
        ("viewer", ("viewer",)),
        (["a b", "viewer", "x,y", 7, None, ["z"], "é"], ("viewer",)),
        ({"viewer": True}, ()),
        (7, ()),
        (None, ()),
    ],
)
def test_roles_that_are_no_names_are_left_out(
    judged: Judge, roles: Any, taken: tuple[str, ...]
) -> None:
    assert accepted(judged(realm_access={"roles": roles})).roles == taken


@pytest.mark.parametrize("claim", [..., 7, "x", [], {"more": []}])
def test_a_path_that_leads_nowhere_is_no_role(judged: Judge, claim: Any) -> None:
    assert accepted(judged(realm_access=claim)).roles == ()


def test_an_issuer_without_a_word_on_roles_gives_none(judged: Judge) -> None:
    assert accepted(judged(issuer(roles=None), roles=["admin"])).roles == ()


@pytest.mark.parametrize("email", ["a\r\nb@example.com", "", "x" * 255, 7, ["a@example.com"], None])
def test_an_address_of_another_form_is_none_and_never_verified(judged: Judge, email: Any) -> None:
    principal = accepted(judged(email=email))
    assert (principal.email, principal.email_verified) == (None, False)


@pytest.mark.parametrize("value", [..., None, False, "true", 1, ["true"]])
def test_only_true_itself_says_that_an_address_is_verified(judged: Judge, value: Any) -> None:
    assert accepted(judged(email_verified=value)).email_verified is False


class Failing:
    """Meets `ClaimReader`: an expression that cannot be evaluated."""

    text = "claims.roles[7]"

    def read(self, claims: Any) -> Any:
        raise ClaimError("there is no element 7")


@pytest.mark.parametrize("name", ["subject", "roles", "email", "email_verified"])
def test_an_expression_that_fails_refuses_the_token(judged: Judge, name: str) -> None:
    failing: dict[str, Any] = {name: Failing()}
    assert judged(issuer(**failing)) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "a b"}, ("a", "b")),
        ({"scope": ..., "scp": "a b"}, ("a", "b")),
        ({"scope": ..., "scp": ["a", "b"]}, ("a", "b")),
        ({"scope": ["a", "b"]}, ("a", "b")),
        ({"scope": ""}, ()),
        ({"scope": 7}, ()),
    ],
)
def test_scopes_come_in_several_forms(
    judged: Judge, claims: dict[str, Any], scopes: tuple[str, ...]
) -> None:
    assert accepted(judged(**claims)).granted_scopes == scopes


@pytest.mark.parametrize(("value", "taken"), [("7", None), (True, None), (7.5, None), (7.0, 7)])
def test_a_time_of_sign_in_is_whole_seconds_or_none(
    judged: Judge, value: Any, taken: int | None
) -> None:
    assert accepted(judged(auth_time=value)).auth_time == taken


# Signature


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "EdDSA"])
def test_a_token_that_a_stock_library_signed_is_taken(clock: HandClock, alg: str) -> None:
    one = signer(alg)
    pem = one.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    kinds: dict[str, Any] = {"E": jwk.ECKey, "R": jwk.RSAKey, "P": jwk.RSAKey}
    key = jwk.OKPKey.import_key(pem) if alg == "EdDSA" else kinds[alg[0]].import_key(pem)
    header = {"alg": alg, "typ": "at+jwt", "kid": "k-1"}
    text = jwt.encode(header, CLAIMS, key, algorithms=[alg])
    accepted(verdict(issuer(algorithms=(alg,)), clock, text, key=one))


def test_an_algorithm_that_the_configuration_does_not_name_is_refused(clock: HandClock) -> None:
    text = KEY.token()
    of = issuer(algorithms=("RS256",))
    assert verdict(of, clock, text) is Reason.TOKEN_SIGNATURE_INVALID


@pytest.mark.parametrize("alg", ["none", "HS256", "RS256", "PS256", "ES384", "EdDSA", "es256", ""])
def test_what_the_header_says_chooses_no_algorithm(judged: Judge, alg: str) -> None:
    # CVE-2022-29217, CVE-2026-48523
    algorithms = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
    got = judged(issuer(algorithms=algorithms), header={"alg": alg})
    assert got is Reason.TOKEN_SIGNATURE_INVALID


def test_a_token_that_another_key_signed_is_refused(clock: HandClock) -> None:
    text = signer("ES256").token()  # under the same kid
    assert verdict(issuer(), clock, text) is Reason.TOKEN_SIGNATURE_INVALID


def test_a_signature_of_something_else_is_refused(clock: HandClock) -> None:
    good, other = KEY.token(), KEY.token(sub="admin")
    mixed = other.rpartition(".")[0] + "." + good.rpartition(".")[2]
    assert verdict(issuer(), clock, mixed) is Reason.TOKEN_SIGNATURE_INVALID


def test_an_unsigned_token_is_refused(clock: HandClock) -> None:
    unsigned = KEY.token(header={"alg": "none"}).rpartition(".")[0] + "."
    assert verdict(issuer(), clock, unsigned) is Reason.TOKEN_SIGNATURE_INVALID


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example/keys"},
        {"jwk": KEY.public()},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"b64": False},
        {"zip": "DEF"},
    ],
)
def test_a_token_that_brings_a_key_or_an_extension_is_nobodys(header: dict[str, Any]) -> None:
    assert read_foreign_token(KEY.token(header=header), {URL: "company"}) is None


# Whose, what and for whom


@pytest.mark.parametrize("iss", [URL + "/", URL.upper(), URL[:-1], " " + URL, "", [URL], None, 7])
def test_an_issuer_is_compared_byte_for_byte(iss: Any) -> None:
    # CVE-2024-53861
    assert read_foreign_token(KEY.token(iss=iss), {URL: "company"}) is None


@pytest.mark.parametrize("text", ["", "a.b.c", "a" * 9000, "ory_at_opaque"])
def test_what_is_no_token_is_nobodys(text: str) -> None:
    assert read_foreign_token(text, {URL: "company"}) is None


def test_a_token_without_kid_is_nobodys() -> None:
    assert read_foreign_token(KEY.token(header={"kid": ...}), {URL: "company"}) is None


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", "jwt"])
def test_a_type_is_spelled_in_any_case(judged: Judge, typ: str) -> None:
    accepted(judged(header={"typ": typ}))


@pytest.mark.parametrize("typ", [..., "", "id+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt"])
def test_another_type_is_refused(judged: Judge, typ: Any) -> None:
    assert judged(header={"typ": typ}) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("typ", ["logout+jwt", "secevent+jwt", "application/Logout+JWT"])
def test_a_logout_token_is_never_an_access_token(judged: Judge, typ: str) -> None:
    of = issuer(typ=("logout+jwt", "secevent+jwt"))
    assert judged(of, header={"typ": typ}) is Reason.TOKEN_CLAIMS_INVALID


def test_a_header_without_typ_is_taken_where_the_configuration_says_so(judged: Judge) -> None:
    of = issuer(typ=(ABSENT,))
    accepted(judged(of, header={"typ": ...}))
    for typ in ("", "at+jwt", "absent "):
        assert judged(of, header={"typ": typ}) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize(
    "claims",
    [{"at_hash": "x"}, {"c_hash": "x"}, {"events": {}}, {"at_hash": None}],
)
def test_an_id_token_and_an_event_are_no_access_tokens(
    judged: Judge, claims: dict[str, Any]
) -> None:
    assert judged(header={"typ": "JWT"}, **claims) is Reason.TOKEN_CLAIMS_INVALID


def test_an_access_token_is_no_id_token_where_one_is_wanted(judged: Judge) -> None:
    of = issuer(use=TokenUse.ID, audience=("shop",))
    good: dict[str, Any] = {"aud": "shop", "scope": ..., "nonce": "n", "at_hash": "x"}
    accepted(judged(of, header={"typ": "JWT"}, **good))
    accepted(judged(of, header={"typ": "JWT"}, **good, typ="ID", token_use="id"))
    assert judged(of, header={"typ": "at+jwt"}, **good) is Reason.TOKEN_CLAIMS_INVALID
    wrongs: list[dict[str, Any]] = [
        {"events": {}}, {"scope": "openid"}, {"scp": ["a"]}, {"typ": "Bearer"},
        {"token_use": "access"},
    ]  # fmt: skip
    for wrong in wrongs:
        got = judged(of, header={"typ": "JWT"}, **{**good, **wrong})
        assert got is Reason.TOKEN_CLAIMS_INVALID, wrong


def test_a_token_that_is_bound_to_a_key_is_no_bearers(judged: Judge) -> None:
    """Of DPoP (RFC 9449 section 6.1) and of mutual TLS (RFC 8705 section 3.1)."""
    for cnf in ({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}, {"x5t#S256": "b"}, None):
        assert judged(cnf=cnf) is Reason.TOKEN_CLAIMS_INVALID


def test_a_signature_may_be_called_by_its_newer_name(clock: HandClock) -> None:
    key, of = signer("EdDSA"), issuer(algorithms=("Ed25519",))
    members = key.public()
    for alg in ({}, {"alg": "Ed25519"}):
        published = {**{n: v for n, v in members.items() if n != "alg"}, **alg}
        (found,) = read_jwk_set(document(published)).keys.values()
        verifier = IssuerVerifier(of, max_life_s=MAX_LIFE_S, now=clock.now)
        for named, good in (("Ed25519", True), ("EdDSA", False)):
            token = read_foreign_token(key.token(header={"alg": named}), {URL: of.name})
            assert token is not None
            assert isinstance(verifier.verify(token, found), Principal) is good


def test_what_a_provider_says_of_a_tokens_use_is_heard(judged: Judge) -> None:
    accepted(judged(typ="Bearer", token_use="access", nonce="n"))
    wrongs: list[dict[str, Any]] = [{"typ": "ID"}, {"token_use": "id"}, {"typ": 1}]
    for wrong in (*wrongs, {"scope": ..., "nonce": "n"}):
        assert judged(**wrong) is Reason.TOKEN_CLAIMS_INVALID, wrong


def test_another_claim_may_say_for_whom_a_token_is(judged: Judge) -> None:
    """As that of Amazon Cognito."""
    of = issuer(audience_claim=path("claims.client_id"))
    principal = accepted(judged(of, aud=..., client_id="api"))
    assert principal.audience == ("api",)
    assert judged(of, aud="api", client_id="x") is Reason.TOKEN_CLAIMS_INVALID
    assert judged(issuer(audience_claim=Failing())) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("aud", [AUDIENCE, [AUDIENCE], ["account", AUDIENCE]])
def test_one_audience_among_several_is_enough(judged: Judge, aud: Any) -> None:
    principal = accepted(judged(aud=aud))
    assert principal.audience == ((aud,) if isinstance(aud, str) else tuple(aud))


@pytest.mark.parametrize(
    "aud",
    [
        ...,
        "",
        [],
        "account",
        ["account"],
        "API",
        "api/",
        [["api"]],
        ["api", 7],
        {"api": 1},
        None,
        7,
    ],
)
def test_a_token_that_is_not_for_here_is_refused(judged: Judge, aud: Any) -> None:
    assert judged(aud=aud) is Reason.TOKEN_CLAIMS_INVALID


def test_any_of_the_audiences_of_an_issuer_is_enough(judged: Judge) -> None:
    of = issuer(audience=("api", "other"))
    accepted(judged(of, aud="other"))


@pytest.mark.parametrize(
    ("aud", "taken"),
    [
        ("https://gate.example/mcp", True),
        (["https://elsewhere.example", "https://gate.example/mcp"], True),
        ("https://gate.example/mcp/", False),
        ("https://gate.example/", False),
        ("https://gate.example/mcp?x=1", False),
        ("https://gate.example/mcp#x", False),
        ("ftp://gate.example/mcp", False),
        ("/mcp", False),
        ("https://[::1/mcp", False),
    ],
)
def test_a_token_for_a_resource_is_good_for_resources_alone(
    clock: HandClock, aud: Any, taken: bool
) -> None:
    """Whether it names the host that is called, the route judges."""
    got = verdict(issuer(), clock, KEY.token(aud=aud), "/mcp")
    assert isinstance(got, Principal) is taken
    if taken:
        assert accepted(got).resource_only is True
    assert verdict(issuer(), clock, KEY.token(aud=aud)) is Reason.TOKEN_CLAIMS_INVALID


def test_a_token_for_here_and_for_a_resource_is_good_everywhere(clock: HandClock) -> None:
    text = KEY.token(aud=["https://gate.example/mcp", AUDIENCE])
    assert accepted(verdict(issuer(), clock, text, "/mcp")).resource_only is False


@pytest.mark.parametrize(
    ("values", "given", "taken"),
    [
        (("shop",), "shop", True),
        (("shop", "desk"), "desk", True),
        (("shop",), ["till", "shop"], True),
        (("shop",), "till", False),
        (("shop",), ..., False),
        (("shop",), None, False),
        (("shop",), [], False),
        ((True,), True, True),
        ((True,), 1, False),
        ((1,), True, False),
        ((1,), 1, True),
        ((1,), "1", False),
    ],
)
def test_a_required_claim_has_one_of_its_values(
    judged: Judge, values: tuple[Any, ...], given: Any, taken: bool
) -> None:
    of = issuer(require=(RequiredClaim(path("claims.tenant"), values),))
    assert isinstance(judged(of, tenant=given), Principal) is taken


def test_every_required_claim_is_required(judged: Judge) -> None:
    required = (("claims.azp", "shop"), ("claims.tenant.id", "t"))
    of = issuer(require=tuple(RequiredClaim(path(text), (value,)) for text, value in required))
    assert judged(of) is Reason.TOKEN_CLAIMS_INVALID
    accepted(judged(of, tenant={"id": "t"}))


# Times


def test_a_token_is_refused_once_its_expiry_and_the_leeway_are_over(
    judged: Judge, clock: HandClock
) -> None:
    clock.at = START + 309.9
    assert accepted(judged()).expires_at == START + 310
    clock.at = START + 310
    assert judged() is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_a_time_ahead_is_taken_within_the_leeway(judged: Judge, name: str) -> None:
    accepted(judged(**{name: START + 10}))
    assert judged(**{name: START + 11}) is Reason.TOKEN_CLAIMS_INVALID
    accepted(judged(issuer(leeway_s=60), **{name: START + 60}))
    assert judged(issuer(leeway_s=0), **{name: START + 1}) is Reason.TOKEN_CLAIMS_INVALID


def test_the_longest_life_is_the_issuers_and_never_over_our_own(judged: Judge) -> None:
    accepted(judged(exp=START + MAX_LIFE_S))
    assert judged(exp=START + MAX_LIFE_S + 1) is Reason.TOKEN_CLAIMS_INVALID
    shorter, longer = issuer(max_life_s=300), issuer(max_life_s=2 * MAX_LIFE_S)
    accepted(judged(shorter))
    assert judged(shorter, exp=START + 301) is Reason.TOKEN_CLAIMS_INVALID
    assert judged(longer, exp=START + MAX_LIFE_S + 1) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("name", ["iat", "exp"])
@pytest.mark.parametrize(
    "value", [..., 1.5, True, None, str(START), [START], {}, -1, 2**53 + 1, float(2**60)]
)
def test_a_time_that_is_no_whole_number_of_seconds_is_refused(
    judged: Judge, name: str, value: Any
) -> None:
    assert judged(**{name: value}) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("value", [1.5, True, None, str(START), -1])
def test_a_not_before_of_another_form_is_refused(judged: Judge, value: Any) -> None:
    assert judged(nbf=value) is Reason.TOKEN_CLAIMS_INVALID


def test_whole_seconds_may_be_written_as_a_float(judged: Judge) -> None:
    # RFC 7519 section 2 has a NumericDate of any number.
    principal = accepted(judged(iat=float(START), exp=START + 300.0, nbf=float(START)))
    assert (principal.issued_at, principal.expires_at) == (START, START + 310)
    assert type(principal.issued_at) is type(principal.expires_at) is int


def test_an_expired_token_that_is_wrong_besides_is_told_the_other_thing(
    judged: Judge, clock: HandClock
) -> None:
    clock.at = START + 5000
    assert judged(aud="account") is Reason.TOKEN_CLAIMS_INVALID


# For who looks


def test_each_check_says_what_is_wrong_and_what_would_be_right(clock: HandClock) -> None:
    of = issuer(
        require=(RequiredClaim(path("claims.azp"), ("desk", "till")),),
        subject=path("claims.oid"),
        max_life_s=60,
    )
    verifier = IssuerVerifier(of, max_life_s=MAX_LIFE_S, now=clock.now)
    text = KEY.token(
        header={"typ": "id+jwt"}, aud=["a", "b"], at_hash="x", sid=7, nbf=START + 99, cnf={}
    )
    token = read_foreign_token(text, {URL: "company"})
    assert token is not None
    found = {check.what: check.problem(token) for check in verifier.checks}
    assert found == {
        "typ": "it is id+jwt; at+jwt or jwt would be right",
        "use": "it has at_hash, which no access token has",
        "cnf": "it is bound to a key of its client (DPoP, mutual TLS), which a bearer does not prove",
        "claims.aud": "it is a, b; one that names api would be right",
        "claims.azp": "it is shop; desk or till would be right",
        "claims.oid": "it is not there; 1 to 255 visible ASCII letters would be right",
        "sid": "it is 7; 1 to 255 visible ASCII letters would be right",
        "jti": None,
        "roles": None,
        "email": None,
        "iat": None,
        "nbf": "it is 99 s ahead of our clock; 10 s are the most",
        "life": "exp - iat is 300 s; 60 s are the most",
        "exp": None,
    }


def test_roles_that_are_left_out_can_be_shown(clock: HandClock) -> None:
    verifier = IssuerVerifier(issuer(), max_life_s=MAX_LIFE_S, now=clock.now)
    claims = {"realm_access": {"roles": ["viewer", "a b", 7]}}
    assert verifier.roles_of(claims) == (("viewer",), ("a b", "7"))


def test_a_claim_path_reads_namespaced_claims() -> None:
    reader = ClaimPath('claims["https://example.com/roles"]', ("https://example.com/roles",))
    of = replace(issuer(), roles=reader)
    verifier = IssuerVerifier(of, max_life_s=MAX_LIFE_S, now=HandClock().now)
    claims = json.loads('{"https://example.com/roles": ["viewer"]}')
    assert verifier.roles_of(claims)[0] == ("viewer",)


def problems_of(of: Issuer, clock: HandClock, **claims: Any) -> dict[str, str]:
    """What is wrong with a token of these claims, by check."""
    header = claims.pop("header", None)
    token = read_foreign_token(KEY.token(header=header, **claims), {of.issuer: of.name})
    assert token is not None
    assert token.issuer == of.name
    verifier = IssuerVerifier(of, max_life_s=MAX_LIFE_S, now=clock.now)
    found = {check.what: check.problem(token) for check in verifier.checks}
    return {what: problem for what, problem in found.items() if problem is not None}


@pytest.mark.parametrize(
    ("changed", "claims", "told"),
    [
        ({"use": TokenUse.ID}, {"scope": ...}, {"typ": "it is an access token; an ID token would be right"}),
        ({}, {"events": {}}, {"use": "it is an event, and gives access to nothing"}),
        ({}, {"token_use": "id"}, {"use": "token_use is id; access or access_token would be right"}),
        ({}, {"iat": "x"}, {"iat": "it is x; whole seconds would be right", "life": "exp is 1800000300; whole seconds would be right"}),
        ({}, {"nbf": "x"}, {"nbf": "it is x; whole seconds would be right"}),
        ({}, {"sub": 7}, {"claims.sub": "it is 7; 1 to 255 visible ASCII letters would be right"}),
        ({}, {"aud": "x" * 101}, {"claims.aud": f"it is {'x' * 100}…; one that names api would be right"}),
        ({}, {"aud": "x" * 100}, {"claims.aud": f"it is {'x' * 100}; one that names api would be right"}),
        ({"audience_claim": Failing()}, {}, {"claims.roles[7]": "there is no element 7"}),
        ({"subject": Failing()}, {}, {"claims.roles[7]": "there is no element 7"}),
        ({"roles": Failing()}, {}, {"roles": "there is no element 7"}),
        ({"email": Failing()}, {}, {"email": "there is no element 7"}),
    ],
)  # fmt: skip
def test_a_check_says_what_it_found(
    clock: HandClock, changed: dict[str, Any], claims: dict[str, Any], told: dict[str, str]
) -> None:
    assert problems_of(issuer(**changed), clock, **claims) == told


def test_an_expired_token_is_told_since_when(clock: HandClock) -> None:
    clock.at = START + 320
    assert problems_of(issuer(), clock) == {"exp": "it ended 20 s ago"}


@pytest.mark.parametrize("at", [0, 2**53])
def test_the_first_and_the_last_second_that_all_readers_see_alike_are_taken(
    judged: Judge, at: int
) -> None:
    assert accepted(judged(auth_time=at)).auth_time == at


def test_an_issuer_without_a_word_on_addresses_tells_none(judged: Judge) -> None:
    principal = accepted(judged(issuer(email=None, email_verified=None)))
    assert (principal.email, principal.email_verified) == (None, False)


def test_a_resource_of_this_machine_may_be_plain_http(clock: HandClock) -> None:
    text = KEY.token(aud="http://127.0.0.1:8080/mcp")
    assert accepted(verdict(issuer(), clock, text, "/mcp")).resource_only


def test_a_token_whose_payload_is_no_object_is_nobodys() -> None:
    header = KEY.token().split(".")[0]
    assert read_foreign_token(f"{header}.W10.AA", {URL: "company"}) is None


class OfAlice:
    """Meets `ClaimReader`: reads the claims of the token and of nothing else."""

    text = "claims.of_alice"

    def read(self, claims: Any) -> Any:
        if claims["sub"] != "alice":
            raise ClaimError("these are not her claims")
        return "alice@example.com"


def test_what_reads_claims_is_given_those_of_the_token(clock: HandClock) -> None:
    of = issuer(roles=OfAlice(), email=OfAlice())
    assert problems_of(of, clock) == {}
    told = dict.fromkeys(("roles", "email"), "these are not her claims")
    assert problems_of(of, clock, sub="bob") == told
