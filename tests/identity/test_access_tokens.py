"""What an access token must be, claim by claim; forgeries are in test_token_forgeries.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.base64url import encoded
from gateway.identity.keys.jwk import Alg, SigningKey, generate
from gateway.identity.tokens.access_tokens import (
    IAT_AHEAD_S,
    TokenVerifier,
    are_names,
    is_name,
    scopes_of,
    unknown_kid,
)
from gateway.identity.tokens.jws import BYTES_MAX, HEADER_BYTES_MAX, is_compact, parse
from gateway.model import Principal, Reason
from tests.identity.keyring import (
    AUDIENCE,
    ISSUER,
    MAX_LIFE_S,
    START,
    Gate,
    HandClock,
    signed,
)
from tests.identity.test_jwk import private_pem, public_pem

Judge = Callable[..., Principal | Reason]

CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "u-alice",
    "user_id": "u-alice",
    "roles": ["viewer"],
    "email": "alice@example.com",
    "email_verified": True,
    "sid": "s-1",
    "jti": "t-1",
    "iat": START,
    "exp": START + 900,
    "client_id": "authgate",
    "amr": ["pwd"],
    "auth_time": START,
}


@pytest.fixture
def judged(gate: Gate) -> Judge:
    """The verdict on a token with these claims over CLAIMS; `...` leaves one out."""

    def judge(*, typ: Any = "at+jwt", **claims: Any) -> Principal | Reason:
        key = gate.ring.signing_key()
        header = {"alg": key.alg, "typ": typ, "kid": key.kid}
        payload = {k: v for k, v in {**CLAIMS, **claims}.items() if v is not ...}
        return gate.verifier.verify(signed(key, header, payload))

    return judge


# Claims that a token must have


async def test_the_claims_of_the_contract_are_believed(judged: Judge) -> None:
    assert isinstance(judged(), Principal)


@pytest.mark.parametrize("cnf", [{"jkt": "x"}, {"x5t#S256": "x"}, {}, None])
async def test_a_token_that_is_bound_to_a_key_of_its_client_is_no_bearer(
    judged: Judge, cnf: object
) -> None:
    assert judged(cnf=cnf) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("name", ["sub", "sid", "jti"])
async def test_a_token_without_a_name_is_refused(judged: Judge, name: str) -> None:
    assert judged(**{name: ...}) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("name", ["iss", "aud", "iat", "exp"])
async def test_a_token_without_a_required_claim_is_refused(judged: Judge, name: str) -> None:
    assert judged(**{name: ...}) is Reason.TOKEN_CLAIMS_INVALID


async def test_the_rest_may_be_absent(judged: Judge) -> None:
    optional = ("user_id", "roles", "email", "email_verified", "client_id", "amr", "auth_time")
    principal = judged(**dict.fromkeys(optional, ...))
    assert isinstance(principal, Principal)
    assert principal.roles == ()


@pytest.mark.parametrize("name", ["sub", "sid", "jti", "client_id"])
@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "a b", "a,b", "a\n", "a\x00", "é", "x" * 129, "a/b", "<a>"),
        *(7, True, None, ["a"], {"a": 1}, 1.5),
    ],
)
async def test_a_name_of_another_form_is_refused(judged: Judge, name: str, value: Any) -> None:
    assert judged(**{name: value}) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize(
    "roles",
    [
        *("admin", {"admin": True}, None, True, 1),
        *([""], ["a b"], ["a,b"], [1], [None], [["admin"]]),
        *(["viewer", "x" * 129], ["viewer\r\nadmin"]),
    ],
)
async def test_roles_of_another_form_are_refused(judged: Judge, roles: Any) -> None:
    assert judged(roles=roles) is Reason.TOKEN_MALFORMED


async def test_an_empty_subject_is_never_an_account(judged: Judge) -> None:
    # GHSA-5hvv-9cqv-894r
    assert judged(sub="", user_id="") is Reason.TOKEN_MALFORMED


async def test_the_widest_name_is_taken(judged: Judge) -> None:
    name = "Az09._:@-" + "x" * 119
    assert isinstance(judged(sub=name, user_id=name, sid=name, jti=name), Principal)
    assert is_name(name)
    assert not is_name(name + "x")


_NAMES = st.from_regex(r"[A-Za-z0-9._:@-]{1,128}", fullmatch=True)


@given(st.lists(_NAMES | st.text(max_size=3) | st.sampled_from(["x" * 129, "a\n", 1, None, ["a"]])))
def test_names_are_judged_together_as_they_are_alone(values: list[Any]) -> None:
    assert are_names(values) is all(map(is_name, values))


@pytest.mark.parametrize("user_id", ["u-bob", "", None, ["u-alice"]])
async def test_a_user_id_that_is_not_the_subject_is_refused(judged: Judge, user_id: Any) -> None:
    assert judged(user_id=user_id) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize(
    "email", ["", "a\r\n@b", "a\x00@b", "a\u2028@b", "x" * 255, 1, None, ["a@b"]]
)
async def test_an_address_that_could_end_a_header_line_is_refused(
    judged: Judge, email: Any
) -> None:
    assert judged(email=email) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("email_verified", "true"),
        ("email_verified", 1),
        ("email_verified", None),
        ("amr", "pwd"),
        ("amr", [1]),
        ("auth_time", "now"),
        ("auth_time", -1),
        ("auth_time", True),
        ("nbf", "0"),
        ("nbf", 1.5),
    ],
)
async def test_a_claim_of_another_type_is_refused(judged: Judge, name: str, value: Any) -> None:
    assert judged(**{name: value}) is Reason.TOKEN_CLAIMS_INVALID


async def test_the_principal_is_what_the_claims_say(judged: Judge, gate: Gate) -> None:
    principal = judged()
    assert isinstance(principal, Principal)
    assert principal == Principal(
        subject="u-alice",
        roles=("viewer",),
        session_id="s-1",
        token_id="t-1",
        client_id="authgate",
        kid=gate.ring.signing_key().kid,
        issued_at=START,
        expires_at=START + 900,
        email="alice@example.com",
        email_verified=True,
        auth_time=START,
        amr=("pwd",),
        claims=CLAIMS,
        audience=(CLAIMS["aud"],),
    )
    assert principal.claims == CLAIMS


async def test_what_the_claims_do_not_say_is_not_made_up(judged: Judge) -> None:
    optional = ("user_id", "roles", "email", "email_verified", "client_id", "amr", "auth_time")
    principal = judged(**dict.fromkeys(optional, ...))
    assert isinstance(principal, Principal)
    assert (principal.roles, principal.amr) == ((), ())
    assert (principal.email, principal.client_id, principal.auth_time) == (None, None, None)
    assert principal.email_verified is False
    assert principal.granted_scopes == ()


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, ()),
        ({"scope": ""}, ()),
        ({"scope": "read"}, ("read",)),
        ({"scope": "read write"}, ("read", "write")),
        ({"scope": "read\twrite"}, ("read\twrite",)),  # a space alone parts them
        ({"scope": ["read", "write"]}, ("read", "write")),
        ({"scp": "read write"}, ("read", "write")),
        ({"scp": ["read"]}, ("read",)),
        ({"scope": "read", "scp": "write"}, ("read",)),
        ({"scope": ["read", 7]}, ()),
        ({"scope": {"read": True}}, ()),
        ({"scope": None, "scp": "write"}, ()),
    ],
)
async def test_what_was_granted_is_what_the_scope_says(
    judged: Judge, claims: dict[str, Any], scopes: tuple[str, ...]
) -> None:
    assert scopes_of(claims) == scopes
    principal = judged(**claims)
    assert isinstance(principal, Principal)
    assert principal.granted_scopes == scopes


@pytest.mark.parametrize("at", [0, 2**53])
async def test_the_first_and_the_last_second_that_all_readers_see_alike_are_taken(
    judged: Judge, at: int
) -> None:
    assert isinstance(judged(auth_time=at), Principal)
    assert judged(auth_time=at + 1 if at else -1) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("email", ["x", "x" * 254])
async def test_the_shortest_and_the_longest_address_are_taken(judged: Judge, email: str) -> None:
    assert isinstance(judged(email=email), Principal)


@pytest.mark.parametrize(
    ("text", "compact"),
    [
        *(("a.b.c", True), ("a.b.", True), ("", False), ("a.b", False), ("a.b.c.d", False)),
        *((".b.c", False), ("a..c", False), ("a.b.c\n", False), ("a.b.c=", False)),
    ],
)
def test_a_token_of_three_parts_is_told_by_its_form(text: str, compact: bool) -> None:
    assert is_compact(text) is compact


async def test_no_kid_is_read_from_what_is_no_token() -> None:
    assert unknown_kid("a.b.c") is None


@pytest.mark.parametrize(("deep", "taken"), [(31, True), (32, False)])
async def test_a_claim_that_other_readers_would_cut_off_is_refused(
    judged: Judge, deep: int, taken: bool
) -> None:
    """At most 32 objects and lists in one another, the claims themselves being the first."""
    claim: Any = json.loads("[" * deep + "]" * deep)
    assert isinstance(judged(more=claim), Principal) is taken


# For here


@pytest.mark.parametrize("name", ["iss", "aud"])
@pytest.mark.parametrize(
    "changed",
    [
        lambda right: right[:-1],
        lambda right: right[1:],
        lambda right: right + "/",
        lambda right: right + ".evil.example",
        lambda right: right.upper(),
        lambda right: " " + right,
        lambda right: [],
        lambda right: ["https://other.example"],
        lambda right: [right + "/", right[:-1], right.upper()],
        lambda right: [[right]],
        lambda right: [right, 7],
        lambda right: [right, None],
        lambda right: {right: True},
        lambda right: "",
        lambda right: None,
        lambda right: 7,
        lambda right: True,
    ],
)
async def test_issuer_and_audience_are_compared_whole(
    judged: Judge, name: str, changed: Callable[[str], Any]
) -> None:
    # CVE-2024-53861
    assert judged(**{name: changed(CLAIMS[name])}) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("more", [[], ["https://other.example"], ["a", "b", "c"]])
async def test_a_list_of_audiences_that_holds_ours_is_for_here(
    judged: Judge, more: list[str]
) -> None:
    # RFC 7519 section 4.1.3
    for listed in ([*more, CLAIMS["aud"]], [CLAIMS["aud"], *more]):
        principal = judged(aud=listed)
        assert isinstance(principal, Principal)
        assert principal.audience == tuple(listed)


@pytest.mark.parametrize("listed", [[CLAIMS["iss"]], [CLAIMS["iss"], "https://other.example"]])
async def test_a_list_that_holds_our_issuer_is_none(judged: Judge, listed: list[str]) -> None:
    # CVE-2024-53861; section 4.1.1 has one issuer
    assert judged(iss=listed) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
async def test_the_spellings_of_the_rfc_are_taken(judged: Judge, typ: str) -> None:
    assert isinstance(judged(typ=typ), Principal)


@pytest.mark.parametrize(
    "typ", ["JWT", "jwt", "", "at+jwt ", "at", "id+jwt", "logout+jwt", "authgate-assertion+jwt"]
)
async def test_a_signed_token_of_another_type_is_no_access_token(judged: Judge, typ: str) -> None:
    # CVE-2024-47616
    assert judged(typ=typ) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("typ", [None, 1, True, ["at+jwt"], {"at+jwt": 1}])
async def test_a_type_that_is_no_text_is_refused(judged: Judge, typ: Any) -> None:
    assert judged(typ=typ) is Reason.TOKEN_MALFORMED


# Times


async def test_a_token_is_refused_from_its_very_expiry_on(judged: Judge, clock: HandClock) -> None:
    clock.at = START + 899.999
    assert isinstance(judged(), Principal)
    clock.at = START + 900
    assert judged() is Reason.TOKEN_EXPIRED


async def test_a_future_iat_is_taken_for_five_seconds(judged: Judge) -> None:
    assert isinstance(judged(iat=START + IAT_AHEAD_S), Principal)
    assert judged(iat=START + IAT_AHEAD_S + 1) is Reason.TOKEN_CLAIMS_INVALID


async def test_a_token_that_is_not_valid_yet_is_refused(judged: Judge) -> None:
    assert isinstance(judged(nbf=START + IAT_AHEAD_S), Principal)
    assert judged(nbf=START + IAT_AHEAD_S + 1) is Reason.TOKEN_CLAIMS_INVALID


async def test_a_claimed_life_over_the_longest_is_refused(judged: Judge) -> None:
    assert isinstance(judged(exp=START + MAX_LIFE_S), Principal)
    assert judged(exp=START + MAX_LIFE_S + 1) is Reason.TOKEN_CLAIMS_INVALID


async def test_an_old_iat_does_not_stretch_the_life(judged: Judge) -> None:
    assert judged(iat=START - MAX_LIFE_S) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("name", ["iat", "exp"])
@pytest.mark.parametrize(
    "value", [1.5, float(START), True, False, None, str(START), [START], {}, -1, 2**53 + 1, 2**63]
)
async def test_a_time_that_is_no_whole_number_of_seconds_is_refused(
    judged: Judge, name: str, value: Any
) -> None:
    assert judged(**{name: value}) is Reason.TOKEN_CLAIMS_INVALID


async def test_a_token_whose_expiry_lies_before_its_issue_has_expired(judged: Judge) -> None:
    assert judged(exp=START - 10) is Reason.TOKEN_EXPIRED


# Signing out


async def test_signing_out_takes_a_token_that_has_expired(gate: Gate, clock: HandClock) -> None:
    text = gate.token()
    clock.advance(5000)
    assert gate.verifier.verify(text) is Reason.TOKEN_EXPIRED
    principal = gate.verifier.verify(text, allow_expired=True)
    assert isinstance(principal, Principal)
    assert principal.session_id == "s-1"


async def test_signing_out_takes_nothing_else_that_is_wrong(gate: Gate, clock: HandClock) -> None:
    key = gate.ring.signing_key()
    header = {"alg": key.alg, "typ": "at+jwt", "kid": key.kid}
    good = gate.token()
    clock.advance(5000)
    for change in ({"iss": "other"}, {"exp": START + MAX_LIFE_S + 1}, {"user_id": "u-bob"}):
        text = signed(key, header, {**CLAIMS, **change})
        assert gate.verifier.verify(text, allow_expired=True) is Reason.TOKEN_CLAIMS_INVALID
    broken = good[:-10] + ("A" if good[-10] != "A" else "B") + good[-9:]
    assert gate.verifier.verify(broken, allow_expired=True) is Reason.TOKEN_SIGNATURE_INVALID


# Imported keys


@pytest.mark.parametrize("alg", list(Alg))
async def test_a_token_of_an_imported_key_needs_no_account_here(gate: Gate, alg: Alg) -> None:
    private = generate(alg)
    imported = await gate.rotation.import_key(public_pem(private), verify_only=True)
    key = SigningKey(imported.kid, alg, private)
    claims = {k: v for k, v in CLAIMS.items() if k not in ("email", "email_verified")}
    header = {"alg": alg, "typ": "at+jwt", "kid": imported.kid}
    principal = gate.verifier.verify(
        signed(key, header, {**claims, "sub": "x:1", "user_id": "x:1"})
    )
    assert isinstance(principal, Principal)
    assert (principal.subject, principal.email) == ("x:1", None)


async def test_a_token_of_an_imported_key_needs_our_issuer_audience_and_type(gate: Gate) -> None:
    private = generate(Alg.ES256)
    imported = await gate.rotation.import_key(private_pem(private), verify_only=True)
    key = SigningKey(imported.kid, Alg.ES256, private)
    for typ, change in (
        ("at+jwt", {"iss": "https://theirs.example"}),
        ("at+jwt", {"aud": "https://theirs.example"}),
        ("JWT", {}),
    ):
        header = {"alg": "ES256", "typ": typ, "kid": imported.kid}
        text = signed(key, header, {**CLAIMS, **change})
        assert gate.verifier.verify(text) is Reason.TOKEN_CLAIMS_INVALID


async def test_the_token_of_another_installation_is_refused(gate: Gate, clock: HandClock) -> None:
    elsewhere = TokenVerifier(
        gate.ring, issuer=ISSUER, audience="https://b.example", max_life_s=MAX_LIFE_S, clock=clock
    )
    assert elsewhere.verify(gate.token()) is Reason.TOKEN_CLAIMS_INVALID


async def test_a_token_of_8_kib_is_taken_and_one_more_byte_is_not(gate: Gate) -> None:
    key = gate.ring.signing_key()
    header = {"alg": key.alg, "typ": "at+jwt", "kid": key.kid}
    texts = (signed(key, header, {**CLAIMS, "more": "x" * n}) for n in range(5300, 5800))
    by_size = {len(text): text for text in texts}
    longest = max(size for size in by_size if size <= BYTES_MAX)
    shortest = min(size for size in by_size if size > BYTES_MAX)
    assert shortest - longest <= 2
    assert isinstance(gate.verifier.verify(by_size[longest]), Principal)
    assert gate.verifier.verify(by_size[shortest]) is Reason.TOKEN_MALFORMED


def test_a_long_header_is_refused_unread() -> None:
    """It is read before anybody knows who calls: 8 KiB of empty objects took 0.6 ms, three times
    where the key was not known."""

    def token(filler: int) -> str:
        header = encoded(b'{"alg":"EdDSA","kid":"k","x":"%b"}' % (b"a" * filler))
        return f"{header}.{encoded(b'{}')}.AAAA"

    by_size = {token(filler).find("."): token(filler) for filler in range(1_480, 1_520)}
    assert HEADER_BYTES_MAX in by_size
    assert {size <= HEADER_BYTES_MAX for size, text in by_size.items() if parse(text)} == {True}
    assert {size > HEADER_BYTES_MAX for size, text in by_size.items() if not parse(text)} == {True}
