"""What a token of another issuer must be, claim by claim."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwk, jwt

from gateway.access.issuers import ABSENT, RequiredClaim, TokenUse
from gateway.identity.issuers.jwk_set import read_jwk_set
from gateway.identity.issuers.verifier import IssuerVerifier, read_foreign_token
from gateway.model import Principal, Reason
from tests.identity.issuers.provider import AUDIENCE, CLAIMS, URL, document, issuer, path, signer
from tests.identity.issuers.verdicts import KEY, Failing, Judge, accepted, verdict
from tests.identity.keyring import MAX_LIFE_S, START, HandClock

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


def test_a_resource_of_this_machine_may_be_plain_http(clock: HandClock) -> None:
    text = KEY.token(aud="http://127.0.0.1:8080/mcp")
    assert accepted(verdict(issuer(), clock, text, "/mcp")).resource_only


def test_a_token_whose_payload_is_no_object_is_nobodys() -> None:
    header = KEY.token().split(".")[0]
    assert read_foreign_token(f"{header}.W10.AA", {URL: "company"}) is None
