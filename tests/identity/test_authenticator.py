from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from gateway.identity.tokens.authenticator import NoOtherIssuers, RequestAuthenticator
from gateway.model import Call, Credential, CredentialKind, Principal, Reason
from gateway.stores.protocols import StoreUnavailable
from tests.identity.keyring import ALICE, Gate, HandClock
from tests.identity.presented import BEARER, Replica, call_with, someone

ALL = frozenset(CredentialKind)


@pytest.fixture
def authenticator(gate: Gate, replica: Replica) -> RequestAuthenticator:
    return RequestAuthenticator(gate.verifier, gate.ring, replica, gate.clock)


async def test_a_good_token_is_identified_and_remembered(
    gate: Gate, authenticator: RequestAuthenticator
) -> None:
    call = call_with(gate.token())
    first = await authenticator.authenticate(call, BEARER)
    assert isinstance(first, Principal)
    assert first.subject == ALICE.subject
    assert await authenticator.authenticate(call, BEARER) is first
    assert len(authenticator) == 1


async def test_revocation_is_asked_on_every_call_of_a_remembered_token(
    gate: Gate, authenticator: RequestAuthenticator, replica: Replica
) -> None:
    call = call_with(gate.token())
    principal = await authenticator.authenticate(call, BEARER)
    assert isinstance(principal, Principal)
    replica.refused[principal.token_id] = Reason.TOKEN_REVOKED
    assert await authenticator.authenticate(call, BEARER) is Reason.TOKEN_REVOKED
    replica.refused[principal.token_id] = Reason.TOKEN_OUTDATED
    assert await authenticator.authenticate(call, BEARER) is Reason.TOKEN_OUTDATED


async def test_a_token_that_was_revoked_before_it_was_ever_seen_is_refused(
    gate: Gate, authenticator: RequestAuthenticator, replica: Replica
) -> None:
    issued = gate.issuer.issue(ALICE, int(gate.clock.now()))
    replica.refused[issued.token_id] = Reason.TOKEN_REVOKED
    verdict = await authenticator.authenticate(call_with(issued.text), BEARER)
    assert verdict is Reason.TOKEN_REVOKED


async def test_a_stale_replica_refuses_remembered_tokens_too(
    gate: Gate, authenticator: RequestAuthenticator, replica: Replica
) -> None:
    call = call_with(gate.token())
    await authenticator.authenticate(call, BEARER)
    replica.stale = True
    assert await authenticator.authenticate(call, BEARER) is Reason.REPLICA_STALE


async def test_expiry_is_asked_of_the_clock_on_every_call(
    gate: Gate, authenticator: RequestAuthenticator, clock: HandClock
) -> None:
    call = call_with(gate.token())
    await authenticator.authenticate(call, BEARER)
    clock.advance(899.9)
    assert isinstance(await authenticator.authenticate(call, BEARER), Principal)
    clock.advance(0.1)
    assert await authenticator.authenticate(call, BEARER) is Reason.TOKEN_EXPIRED


async def test_a_key_that_ceases_to_verify_empties_the_memory(
    gate: Gate, authenticator: RequestAuthenticator
) -> None:
    # CVE-2026-33496
    call = call_with(gate.token())
    await authenticator.authenticate(call, BEARER)
    await gate.rotation.revoke(gate.ring.signing_key().kid)
    assert len(authenticator) == 0
    assert await authenticator.authenticate(call, BEARER) is Reason.KEY_UNKNOWN


async def test_a_rotation_leaves_the_memory_as_it_is(
    gate: Gate, authenticator: RequestAuthenticator
) -> None:
    call = call_with(gate.token())
    first = await authenticator.authenticate(call, BEARER)
    await gate.rotation.rotate()
    assert await authenticator.authenticate(call, BEARER) is first


async def test_the_whole_text_is_the_key(gate: Gate, authenticator: RequestAuthenticator) -> None:
    """Same header, same claims, a broken signature: a memory of less would let it in."""
    text = gate.token()
    await authenticator.authenticate(call_with(text), BEARER)
    broken = text[:-20] + ("A" if text[-20] != "A" else "B") + text[-19:]
    verdict = await authenticator.authenticate(call_with(broken), BEARER)
    assert verdict is Reason.TOKEN_SIGNATURE_INVALID
    assert isinstance(await authenticator.authenticate(call_with(text), BEARER), Principal)


async def test_forged_tokens_push_no_good_one_out(gate: Gate, replica: Replica) -> None:
    small = RequestAuthenticator(gate.verifier, gate.ring, replica, gate.clock, tokens_max=2)
    good = gate.token()
    principal = await small.authenticate(call_with(good), BEARER)
    head = good.rpartition(".")[0]
    for number in range(200):
        await small.authenticate(call_with(f"{head}.{number:086d}"), BEARER)
    assert await small.authenticate(call_with(good), BEARER) is principal
    assert len(small) == 1


async def test_a_token_with_a_new_key_is_looked_up_and_then_believed(
    gate: Gate, authenticator: RequestAuthenticator, clock: HandClock
) -> None:
    other = await Gate(gate.database, clock).start()
    for _ in range(2):  # the second one promotes a key that the first node has never seen
        await other.rotation.revoke(other.ring.signing_key().kid)
        await other.ring.refresh()
    verdict = await authenticator.authenticate(call_with(other.token()), BEARER)
    assert isinstance(verdict, Principal)


async def test_nobody_who_could_not_look_calls_a_token_bad(
    gate: Gate, authenticator: RequestAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = gate.token()
    await gate.rotation.revoke(gate.ring.signing_key().kid)

    async def away(kid: str) -> None:
        raise StoreUnavailable("sql", kid)

    monkeypatch.setattr(gate.ring, "find", away)
    verdict = await authenticator.authenticate(call_with(text), BEARER)
    assert verdict is Reason.STORE_UNAVAILABLE


@pytest.mark.parametrize("credential", [None, Reason.AMBIGUOUS_HEADER, Reason.TOKEN_MALFORMED])
async def test_what_could_not_be_read_is_answered_as_the_door_said(
    authenticator: RequestAuthenticator, credential: Reason | None
) -> None:
    verdict = await authenticator.authenticate(call_with(credential), BEARER)
    assert verdict is (credential or Reason.NO_CREDENTIAL)


async def test_a_kind_that_the_route_does_not_accept_is_not_looked_at(
    gate: Gate, authenticator: RequestAuthenticator, replica: Replica
) -> None:
    call = call_with(gate.token())
    verdict = await authenticator.authenticate(call, frozenset({CredentialKind.COOKIE}))
    assert verdict is Reason.NO_CREDENTIAL
    assert (len(authenticator), replica.asked) == (0, 0)


async def test_a_kind_that_nobody_judges_here_is_no_credential(
    authenticator: RequestAuthenticator,
) -> None:
    cookie = Credential(CredentialKind.COOKIE, "id")
    assert await authenticator.authenticate(call_with(cookie), ALL) is Reason.NO_CREDENTIAL


class Cookies:
    def __init__(self, answer: Principal | Reason) -> None:
        self.answer = answer

    async def authenticate(self, credential: Credential, call: Call) -> Principal | Reason:
        return self.answer


async def test_another_kind_is_judged_by_its_own_judge_and_then_by_clock_and_replica(
    gate: Gate, replica: Replica, clock: HandClock
) -> None:
    principal = gate.verifier.verify(gate.token())
    assert isinstance(principal, Principal)
    others = {CredentialKind.COOKIE: Cookies(principal)}
    authenticator = RequestAuthenticator(gate.verifier, gate.ring, replica, clock, others=others)
    call = call_with(Credential(CredentialKind.COOKIE, "id"))
    assert await authenticator.authenticate(call, ALL) is principal
    replica.refused[principal.token_id] = Reason.TOKEN_REVOKED
    assert await authenticator.authenticate(call, ALL) is Reason.TOKEN_REVOKED
    clock.advance(1000)
    assert await authenticator.authenticate(call, ALL) is Reason.TOKEN_EXPIRED


async def test_a_cookie_value_is_never_taken_for_a_token(
    gate: Gate, replica: Replica, clock: HandClock
) -> None:
    """Even one whose text is a good token that is remembered."""
    others = {CredentialKind.COOKIE: Cookies(Reason.SESSION_UNKNOWN)}
    authenticator = RequestAuthenticator(gate.verifier, gate.ring, replica, clock, others=others)
    text = gate.token()
    await authenticator.authenticate(call_with(text), ALL)
    call = call_with(Credential(CredentialKind.COOKIE, text))
    assert await authenticator.authenticate(call, ALL) is Reason.SESSION_UNKNOWN


async def test_many_first_sights_at_once_leave_one_memory(
    gate: Gate, authenticator: RequestAuthenticator
) -> None:
    call = call_with(gate.token())
    await asyncio.gather(*(authenticator.authenticate(call, BEARER) for _ in range(100)))
    assert len(authenticator) == 1


async def test_sweeping_lets_go_of_expired_tokens_alone(
    gate: Gate, authenticator: RequestAuthenticator, clock: HandClock
) -> None:
    await authenticator.authenticate(call_with(gate.token()), BEARER)
    clock.advance(600)
    await authenticator.authenticate(call_with(gate.token()), BEARER)
    clock.advance(300)
    authenticator.sweep()
    assert len(authenticator) == 1


async def test_who_is_at_hand_is_told_without_a_wait(
    gate: Gate, authenticator: RequestAuthenticator, replica: Replica
) -> None:
    call = call_with(gate.token())
    principal = authenticator.authenticate_now(call, BEARER)
    assert isinstance(principal, Principal)
    replica.refused[principal.token_id] = Reason.TOKEN_REVOKED
    assert authenticator.authenticate_now(call, BEARER) is Reason.TOKEN_REVOKED
    assert authenticator.authenticate_now(call_with("a.b.c"), BEARER) is Reason.TOKEN_MALFORMED
    assert authenticator.authenticate_now(call, frozenset()) is Reason.NO_CREDENTIAL


async def test_for_whom_a_store_would_be_asked_is_not_at_hand(
    authenticator: RequestAuthenticator,
) -> None:
    cookie = Credential(CredentialKind.COOKIE, "x")
    assert authenticator.authenticate_now(call_with(cookie), ALL) is None


async def test_who_was_remembered_is_at_hand(
    gate: Gate, authenticator: RequestAuthenticator, clock: HandClock
) -> None:
    call = call_with(gate.token())
    first = await authenticator.authenticate(call, BEARER)
    assert authenticator.authenticate_now(call, BEARER) is first
    clock.advance(899)
    assert authenticator.authenticate_now(call, BEARER) is first
    clock.advance(1)
    assert authenticator.authenticate_now(call, BEARER) is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize("credential", [None, Reason.AMBIGUOUS_HEADER])
async def test_what_could_not_be_read_is_at_hand(
    authenticator: RequestAuthenticator, credential: Reason | None
) -> None:
    verdict = authenticator.authenticate_now(call_with(credential), BEARER)
    assert verdict is (credential or Reason.NO_CREDENTIAL)


async def test_a_key_that_is_not_known_here_is_not_at_hand(
    gate: Gate, authenticator: RequestAuthenticator
) -> None:
    text = gate.token()
    await gate.rotation.revoke(gate.ring.signing_key().kid)
    assert authenticator.authenticate_now(call_with(text), BEARER) is None


async def test_a_store_is_asked_only_after_whoever_began_it_could_go_on(
    gate: Gate, replica: Replica, clock: HandClock
) -> None:
    """Decisions are begun outside a task: the first step must not wait for anything."""
    others = {CredentialKind.COOKIE: Cookies(Reason.SESSION_UNKNOWN)}
    authenticator = RequestAuthenticator(gate.verifier, gate.ring, replica, clock, others=others)
    text = gate.token()
    await gate.rotation.revoke(gate.ring.signing_key().kid)
    for credential in (text, Credential(CredentialKind.COOKIE, "id")):
        begun = authenticator.authenticate(call_with(credential), ALL)
        assert begun.send(None) is None
        begun.close()


async def test_another_kinds_authenticator_is_given_the_credential_and_the_call(
    gate: Gate, replica: Replica, clock: HandClock
) -> None:
    given: list[tuple[Credential, Call]] = []

    class Recording:
        async def authenticate(self, credential: Credential, call: Call) -> Principal | Reason:
            given.append((credential, call))
            return Reason.SESSION_UNKNOWN

    others = {CredentialKind.COOKIE: Recording()}
    authenticator = RequestAuthenticator(gate.verifier, gate.ring, replica, clock, others=others)
    credential = Credential(CredentialKind.COOKIE, "id")
    call = call_with(credential)
    await authenticator.authenticate(call, ALL)
    assert given == [(credential, call)]


# Tokens of other issuers


@dataclass
class Presented:
    """A token of the company whose verdict is known, at once or only once it was asked."""

    verdict: Principal | Reason
    at_once: bool = True
    lasts: bool = True
    issuer: str = "company"
    asked_for: list[str] = field(default_factory=list)

    def verify(self) -> Principal | Reason | None:
        return self.verdict if self.at_once else None

    async def verify_asking(self, client_ip: str) -> Principal | Reason:
        self.asked_for.append(client_ip)
        return self.verdict


class Company(NoOtherIssuers):
    """One issuer, and the one token of it that is good."""

    def __init__(self, presented: Presented) -> None:
        super().__init__()
        self.presented = presented

    def read(self, text: str, issuers: frozenset[str]) -> Presented | None:
        return self.presented if text == "theirs" and issuers else None


THEIRS = replace(someone(), issuer="company", expires_at=2**40)
COMPANY = frozenset({"company"})


def taking(gate: Gate, replica: Replica, company: Company) -> RequestAuthenticator:
    return RequestAuthenticator(gate.verifier, gate.ring, replica, gate.clock, issuers=company)


@pytest.mark.parametrize(
    ("until", "issuers", "expected"),
    [
        ({"company": 1000.1}, COMPANY, THEIRS),
        ({"company": 1000.0}, COMPANY, Reason.ISSUER_UNAVAILABLE),  # the very moment is too late
        ({"other": 2000.0}, COMPANY, Reason.ISSUER_UNAVAILABLE),
        ({"company": 2000.0}, frozenset({"own"}), Reason.TOKEN_CLAIMS_INVALID),
    ],
)
async def test_a_token_of_another_issuer_is_believed_where_and_while_that_one_is(
    gate: Gate,
    replica: Replica,
    until: dict[str, float],
    issuers: frozenset[str],
    expected: Principal | Reason,
) -> None:
    company = Company(Presented(THEIRS))
    company.believed_until = until
    authenticator = taking(gate, replica, company)
    call = call_with("theirs")
    assert authenticator.authenticate_now(call, BEARER, issuers) is expected
    for _ in range(2):  # at first sight, and remembered
        assert await authenticator.authenticate(call, BEARER, issuers) is expected
    assert authenticator.authenticate_now(call, BEARER, issuers) is expected


async def test_an_issuer_of_whom_nothing_is_known_is_not_believed_from_the_first_moment_on(
    gate: Gate, replica: Replica, clock: HandClock
) -> None:
    clock.steadily = 0.0
    authenticator = taking(gate, replica, Company(Presented(THEIRS)))
    call = call_with("theirs")
    unavailable = Reason.ISSUER_UNAVAILABLE
    assert authenticator.authenticate_now(call, BEARER, COMPANY) is unavailable
    assert await authenticator.authenticate(call, BEARER, COMPANY) is unavailable


@pytest.mark.parametrize("lasts", [True, False])
async def test_an_issuer_is_asked_for_the_caller_and_a_lasting_verdict_is_kept(
    gate: Gate, replica: Replica, lasts: bool
) -> None:
    presented = Presented(THEIRS, at_once=False, lasts=lasts)
    company = Company(presented)
    company.believed_until = {"company": 2000.0}
    authenticator = taking(gate, replica, company)
    call = call_with("theirs")
    assert authenticator.authenticate_now(call, BEARER, COMPANY) is None
    begun = authenticator.authenticate(call, BEARER, COMPANY)
    assert begun.send(None) is None  # decisions are begun outside a task: the first step waits not
    begun.close()
    assert presented.asked_for == []
    for _ in range(2):
        assert await authenticator.authenticate(call, BEARER, COMPANY) is THEIRS
    assert presented.asked_for == ["127.0.0.1"] * (1 if lasts else 2)
    assert len(authenticator) == int(lasts)


async def test_who_was_verified_by_what_verifies_no_more_is_forgotten(
    gate: Gate, replica: Replica
) -> None:
    company = Company(Presented(THEIRS))
    company.believed_until = {"company": 2000.0}
    authenticator = taking(gate, replica, company)
    await authenticator.authenticate(call_with("theirs"), BEARER, COMPANY)
    await authenticator.authenticate(call_with(gate.token()), BEARER)
    (drop,) = company.dropped
    drop(lambda principal: principal.issuer == "company")
    assert len(authenticator) == 1


async def test_a_token_of_ours_with_a_name_of_theirs_is_refused(
    gate: Gate, replica: Replica
) -> None:
    class Named(NoOtherIssuers):
        def is_namesake(self, principal: Principal) -> bool:
            return principal.subject == ALICE.subject

    authenticator = RequestAuthenticator(
        gate.verifier, gate.ring, replica, gate.clock, issuers=Named()
    )
    call = call_with(gate.token())
    assert authenticator.authenticate_now(call, BEARER) is Reason.TOKEN_CLAIMS_INVALID
    assert await authenticator.authenticate(call, BEARER) is Reason.TOKEN_CLAIMS_INVALID
