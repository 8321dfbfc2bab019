"""Security event tokens of another issuer: which are believed, and what they end."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.conditions.claims import compile_claims
from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.issuers import ClaimPath, Issuer
from gateway.identity.issuers.event_tokens import (
    EventError,
    EventToken,
    InvalidEventToken,
    ReportedEnd,
)
from gateway.identity.issuers.security_events import EVENTS, SecurityEventVerifier
from gateway.model import Reason
from tests.databases import Hands
from tests.identity.issuers.event_provider import (
    ABSENT,
    CAEP,
    ISSUER,
    RISC,
    Provider,
    iss_sub,
    opaque,
    rsa_key,
)

PROVIDER = Provider()
CLOCK = Hands()
NOW = CLOCK.now()
REVOKED = CAEP + "session-revoked"


async def judged(
    text: str, issuer: Issuer | None = None
) -> EventToken | InvalidEventToken | Reason:
    verifier = SecurityEventVerifier(PROVIDER, CLOCK)
    return await verifier.verify(issuer or PROVIDER.issuer(), text)


async def ends(text: str, issuer: Issuer | None = None) -> list[ReportedEnd]:
    token = await judged(text, issuer)
    assert isinstance(token, EventToken), token
    return list(token.ends)


async def error(text: str, issuer: Issuer | None = None) -> EventError:
    token = await judged(text, issuer)
    assert isinstance(token, InvalidEventToken), token
    return token.error


@pytest.mark.parametrize(
    ("event_type", "event"),
    [
        (REVOKED, "session-revoked"),
        (CAEP + "credential-change", "credential-change"),
        (RISC + "account-disabled", "account-disabled"),
        (RISC + "account-purged", "account-purged"),
        (RISC + "sessions-revoked", "sessions-revoked"),
    ],
)
async def test_each_event_ends_what_its_subject_was_given(event_type: str, event: str) -> None:
    text = PROVIDER.security_event(NOW, {event_type: {}}, sub_id=iss_sub())
    assert await ends(text) == [ReportedEnd(event, "alice")]


@pytest.mark.parametrize(
    "identifier",
    [
        {"subject_type": "iss-sub", "iss": ISSUER, "sub": "alice"},
        {"subject_type": "iss_sub", "iss": ISSUER, "sub": "alice"},
        iss_sub(),
    ],
)
async def test_earlier_drafts_name_the_subject_within_the_event(
    identifier: dict[str, Any],
) -> None:
    text = PROVIDER.security_event(NOW, {RISC + "account-disabled": {"subject": identifier}})
    assert await ends(text) == [ReportedEnd("account-disabled", "alice")]


async def test_a_session_is_named_by_a_complex_subject() -> None:
    subject = {"format": "complex", "user": iss_sub(), "session": opaque("s-1")}
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, sub_id=subject)
    assert await ends(text) == [ReportedEnd("session-revoked", "alice", "s-1")]


async def test_a_complex_subject_may_name_a_session_or_a_user_alone() -> None:
    of_session = {"format": "complex", "session": opaque("s-1")}
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, sub_id=of_session)
    assert await ends(text) == [ReportedEnd("session-revoked", None, "s-1")]
    text = PROVIDER.security_event(NOW, {REVOKED: {"subject": {"session": opaque("s-1")}}})
    assert await ends(text) == [ReportedEnd("session-revoked", None, "s-1")]
    of_user = {"user": opaque("alice"), "tenant": {"format": "opaque", "id": "t"}}
    text = PROVIDER.security_event(NOW, {REVOKED: {"subject": of_user}})
    assert await ends(text) == [ReportedEnd("session-revoked", "alice")]


async def test_what_is_said_of_an_account_is_not_narrowed_by_a_session() -> None:
    subject = {"format": "complex", "user": iss_sub(), "session": opaque("s-1")}
    text = PROVIDER.security_event(NOW, {CAEP + "credential-change": {}}, sub_id=subject)
    assert await ends(text) == [ReportedEnd("credential-change", "alice")]


@pytest.mark.parametrize("event_type", [name for name in EVENTS if name != REVOKED])
async def test_what_is_said_of_an_account_by_a_session_alone_ends_that_session(
    event_type: str,
) -> None:
    subject = {"format": "complex", "session": opaque("s-1")}
    text = PROVIDER.security_event(NOW, {event_type: {}}, sub_id=subject)
    assert await ends(text) == [ReportedEnd(EVENTS[event_type], session_id="s-1")]


async def test_a_format_that_is_said_counts_for_more_than_the_members() -> None:
    subject = {**iss_sub(), "user": iss_sub("bob"), "session": opaque("s-1")}
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, sub_id=subject)
    assert await ends(text) == [ReportedEnd("session-revoked", "alice")]


async def test_an_opaque_name_of_a_revoked_session_is_taken_for_either() -> None:
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, sub_id=opaque("x-1"))
    assert await ends(text) == [
        ReportedEnd("session-revoked", session_id="x-1"),
        ReportedEnd("session-revoked", subject="x-1"),
    ]


async def test_an_opaque_name_of_an_account_is_its_subject() -> None:
    text = PROVIDER.security_event(NOW, {RISC + "account-purged": {}}, sub_id=opaque("alice"))
    assert await ends(text) == [ReportedEnd("account-purged", "alice")]


async def test_an_event_of_another_type_is_believed_and_ends_nothing() -> None:
    for event_type in (
        "https://schemas.openid.net/secevent/ssf/event-type/verification",
        RISC + "identifier-changed",
        "urn:made:up",
        "",
    ):
        assert await ends(PROVIDER.security_event(NOW, {event_type: {"state": "x"}})) == []


async def test_a_flag_beside_an_event_is_none_of_ours() -> None:
    events = {REVOKED: {}, "urn:made:up": True}
    text = PROVIDER.security_event(NOW, events, sub_id=iss_sub())
    assert await ends(text) == [ReportedEnd("session-revoked", "alice")]


async def test_every_event_of_a_token_counts() -> None:
    events: dict[str, Any] = {"urn:made:up": {}, REVOKED: {}, RISC + "account-disabled": {}}
    text = PROVIDER.security_event(NOW, events, sub_id=iss_sub())
    assert await ends(text) == [
        ReportedEnd("session-revoked", "alice"),
        ReportedEnd("account-disabled", "alice"),
    ]


async def test_a_subject_of_another_issuer_is_nobody_here() -> None:
    elsewhere = iss_sub(iss="https://elsewhere.example")
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, sub_id=elsewhere)
    assert await ends(text) == []
    within = {"format": "complex", "user": elsewhere, "session": opaque("s-1")}
    assert await ends(PROVIDER.security_event(NOW, {REVOKED: {}}, sub_id=within)) == []


@pytest.mark.parametrize(
    "identifier",
    [
        ABSENT,
        None,
        "alice",
        {},
        [],
        {"format": "email", "email": "alice@example.com"},
        {"format": "aliases", "identifiers": []},
        {"format": "complex"},
        {"format": "complex", "tenant": {"format": "opaque", "id": "t"}},
        {"format": "complex", "session": {"format": "iss_sub", "iss": ISSUER, "sub": "s"}},
        {"format": "complex", "user": {"format": "email", "email": "a@example.com"}},
        {"format": "complex", "session": "s-1"},
        {"format": "iss_sub", "sub": "alice"},
        {"format": "iss_sub", "iss": ISSUER},
        {"format": "iss_sub", "iss": ISSUER, "sub": ""},
        {"format": "iss_sub", "iss": ISSUER, "sub": ["alice"]},
        {"format": "iss_sub", "iss": ISSUER, "sub": "a b"},
        {"format": "opaque"},
        {"format": "opaque", "id": 7},
        {"format": 7},
        {"format": ["iss_sub"], "iss": ISSUER, "sub": "alice"},
    ],
)
async def test_a_subject_in_no_known_form_refuses_the_token(identifier: Any) -> None:
    """To say that it was taken would be to say that somebody is signed out."""
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, sub_id=identifier)
    assert await error(text) is EventError.INVALID_REQUEST


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"iss": "https://elsewhere.example"}, EventError.INVALID_ISSUER),
        ({"aud": "another"}, EventError.INVALID_AUDIENCE),
        ({"aud": ABSENT}, EventError.INVALID_AUDIENCE),
        ({"iat": ABSENT}, EventError.INVALID_REQUEST),
        ({"iat": NOW + 11}, EventError.INVALID_REQUEST),
        ({"exp": NOW - 10}, EventError.INVALID_REQUEST),
        ({"jti": ABSENT}, EventError.INVALID_REQUEST),
        ({"events": ABSENT}, EventError.INVALID_REQUEST),
        ({"events": {}}, EventError.INVALID_REQUEST),
        ({"events": {REVOKED: "x"}}, EventError.INVALID_REQUEST),
    ],
)
async def test_a_claim_that_is_wrong_refuses_the_token(
    changed: dict[str, Any], expected: EventError
) -> None:
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, **{"sub_id": iss_sub(), **changed})
    assert await error(text) is expected


@pytest.mark.parametrize(
    ("changed", "description"),
    [
        ({"events": {}}, "events is no object with an event"),
        ({"events": {REVOKED: "x"}}, "the event is no object"),
        ({"sub_id": None}, "the event names its subject in no form that is known here"),
    ],
)
async def test_an_issuer_is_told_what_is_wrong_with_its_event(
    changed: dict[str, Any], description: str
) -> None:
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, **{"sub_id": iss_sub(), **changed})
    token = await judged(text)
    assert isinstance(token, InvalidEventToken)
    assert token.description == description


@pytest.mark.parametrize("typ", ["JWT", None, "logout+jwt", "at+jwt"])
async def test_a_token_of_another_type_is_none(typ: str | None) -> None:
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, {"typ": typ}, sub_id=iss_sub())
    assert await error(text) is EventError.INVALID_REQUEST


async def test_a_signature_that_does_not_hold_is_no_authentication() -> None:
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, {"key": rsa_key()}, sub_id=iss_sub())
    assert await error(text) is EventError.AUTHENTICATION_FAILED
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, {"kid": "k9", "key": rsa_key()})
    assert await error(text) is EventError.INVALID_KEY


async def test_an_event_is_believed_however_late_it_comes() -> None:
    """A transmitter tries again for hours; its time says what the event ends."""
    text = PROVIDER.security_event(NOW - 86_400, {REVOKED: {}}, sub_id=iss_sub())
    token = await judged(text)
    assert isinstance(token, EventToken)
    assert token.issued_at == int(NOW) - 86_400


async def test_a_subject_that_tokens_name_by_another_claim_is_none_of_iss_and_sub() -> None:
    issuer = PROVIDER.issuer(subject=ClaimPath("claims.oid", ("oid",)))
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, sub_id=iss_sub())
    assert await error(text, issuer) is EventError.INVALID_REQUEST
    text = PROVIDER.security_event(NOW, {RISC + "account-purged": {}}, sub_id=opaque("o-1"))
    assert await ends(text, issuer) == [ReportedEnd("account-purged", "o-1")]


async def test_a_subject_that_tokens_name_by_issuer_and_subject_is_found_by_both() -> None:
    subject = compile_claims("claims.iss + '|' + claims.sub", EngineTypes())
    assert not isinstance(subject, list)
    text = PROVIDER.security_event(NOW, {REVOKED: {}}, sub_id=iss_sub())
    issuer = PROVIDER.issuer(subject=subject)
    assert await ends(text, issuer) == [ReportedEnd("session-revoked", f"{ISSUER}|alice")]
