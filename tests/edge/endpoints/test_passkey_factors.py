"""A passkey as a second factor, and for a step-up, through real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.edge.endpoints.audit_events import AccountEvents
from gateway.edge.endpoints.endpoint import ProblemReply
from gateway.edge.endpoints.passkey_proofs import PasskeyProofs, ProvenAccount
from gateway.edge.endpoints.rate_limits import SIGN_INS
from gateway.identity.factors.challenges import CeremonyPurpose, PasskeyChallenges
from gateway.identity.factors.passkey_ceremonies import (
    CeremonyRefusal,
    PasskeyCeremonies,
    UsedTooOften,
)
from gateway.identity.factors.passkeys import Passkeys, PasskeyUse
from gateway.identity.factors.relying_party import RelyingParty
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.model import Call, Reason
from tests.authenticator import (
    USER_PRESENT,
    Authenticator,
    unb64,
)
from tests.edge.auth_house import CREDENTIALS, EMAIL, URL, House, open_house, reason, told
from tests.edge.endpoints.passkey_calls import (
    PASSKEYS,
    SIGN_IN,
    add_passkey,
    asked_to_sign_in,
    claims,
    is_refused,
    signed_in_by_passkey,
)
from tests.nonces import Once


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        await opened.register()
        yield opened


@pytest.fixture
async def authenticator(house: House) -> Authenticator:
    """It has a passkey of the one account."""
    made = Authenticator(URL)
    await add_passkey(house, made)
    return made


async def test_a_passkey_as_a_factor_is_asked_of_one_account_by_one_proof(
    house: House, authenticator: Authenticator
) -> None:
    """What the options were given for: another session, account or purpose has no use for them."""
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    notifications = SecurityNotifications(house.database, house.deps.mailer)
    ceremonies = PasskeyCeremonies(
        RelyingParty("gate.example", (URL,)),
        house.deps.passkey_challenges,
        Passkeys(house.database),
        house.deps.limits.passkey_use_wait_s,
    )
    events = AccountEvents(house.recorded, house.deps.limits.told_event_wait_s)
    proofs = PasskeyProofs(ceremonies, house.database, notifications, events)
    proven = ProvenAccount(CeremonyPurpose.STEP_UP, account.id, "session-1")
    call = Call(
        "POST",
        "gate.example",
        "/",
        ("",),
        "",
        headers=(),
        client_ip="192.0.2.1",
        scheme="https",
        credential=None,
    )

    async def answered(by: ProvenAccount) -> PasskeyUse | ProblemReply:
        options = await proofs.options(proven)
        assert options is not None
        (allowed,) = options["public_key"]["allowCredentials"]
        assert unb64(allowed["id"]) == authenticator.credentials[0].id
        body = {
            "challenge_token": options["challenge_token"],
            "credential": authenticator.get(options["public_key"]),
        }
        return await proofs.factor({}, call, by, body)  # type: ignore[arg-type]

    for other in (
        ProvenAccount(CeremonyPurpose.STEP_UP, account.id, "session-2"),
        ProvenAccount(CeremonyPurpose.FACTOR, account.id, "session-1"),
        ProvenAccount(CeremonyPurpose.STEP_UP, "another account", "session-1"),
    ):
        refused = await answered(other)
        assert isinstance(refused, ProblemReply)
        assert refused.reason is Reason.INVALID_TOKEN
    authenticator.flags = USER_PRESENT  # a key that is touched will do beside a password
    use = await answered(proven)
    assert isinstance(use, PasskeyUse)
    assert use.passkey.amr == ("hwk", "user")

    bob = await house.register("bob@example.com")
    assert await proofs.options(ProvenAccount(CeremonyPurpose.FACTOR, bob.id, "a")) is None


async def first_step(house: House) -> dict[str, Any]:
    asked = await house.ask("POST", "/auth/login", CREDENTIALS)
    assert (asked.status, reason(asked)) == (401, "insufficient_user_authentication")
    return told(asked)


def answer_to(authenticator: Authenticator, asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "challenge_token": asked["challenge_token"],
        "credential": authenticator.get(asked["public_key"]),
    }


async def test_what_signs_nobody_in_leaves_no_challenge_behind(house: House) -> None:
    """A passkey of software answers as often as somebody likes, and each key in Redis stays for
    an hour: by what it is refused for none may come."""
    once, stranger, by_software = Once(), Authenticator(URL), Authenticator(URL)
    await add_passkey(house, by_software)
    stranger.create({"rp": {"id": "gate.example"}, "user": {"id": "AAAA"}, "challenge": "AAAA"})
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    ceremonies = PasskeyCeremonies(
        RelyingParty("gate.example", (URL,)),
        PasskeyChallenges(b"k" * 32, once, house.clock),
        Passkeys(house.database),
        house.deps.limits.passkey_use_wait_s,
    )

    async def answered(by: Authenticator) -> object:
        options = ceremonies.sign_in_options()
        return await ceremonies.sign_in(options["challenge_token"], by.get(options["public_key"]))

    assert await answered(stranger) is CeremonyRefusal.CREDENTIAL
    assert once.claimed == {}
    assert isinstance(await answered(by_software), PasskeyUse)
    assert len(once.claimed) == 1
    while await house.deps.limits.passkey_use_wait_s(account.id) == 0.0:
        pass
    refused = await answered(by_software)
    assert isinstance(refused, UsedTooOften)
    assert 0 < refused.wait_s < 9
    assert len(once.claimed) == 1


async def test_an_account_that_uses_passkeys_all_day_waits(
    house: House, authenticator: Authenticator
) -> None:
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    asked = await first_step(house)
    used = 0
    while await house.deps.limits.passkey_use_wait_s(account.id) == 0.0:
        used += 1
    assert used >= 2 * SIGN_INS[0].burst - 1  # for as many sign-ins, and step-ups
    for path, body in (
        (SIGN_IN, answer_to(authenticator, await asked_to_sign_in(house))),
        ("/auth/login/factor", {
            "mfa_token": asked["mfa_token"], "passkey": answer_to(authenticator, asked["passkey"]),
        }),
    ):  # fmt: skip
        early = await house.ask("POST", path, body)
        assert (early.status, reason(early)) == (429, "rate_limited")
        assert 0 < int(early.values("retry-after")[0]) < 10
    house.clock.move(9)
    assert (await signed_in_by_passkey(house, authenticator)) != ""


async def test_a_passkey_is_asked_for_after_the_password(
    house: House, authenticator: Authenticator
) -> None:
    asked = await first_step(house)
    authenticator.flags = USER_PRESENT  # a key that is touched will do beside a password
    body = {"mfa_token": asked["mfa_token"], "passkey": answer_to(authenticator, asked["passkey"])}
    answer = await house.ask("POST", "/auth/login/factor", body)
    assert answer.status == 200, answer.body
    amr = claims(house, told(answer)["access_token"])["amr"]
    assert amr == ["pwd", "hwk", "user", "mfa"]
    again = await house.ask("POST", "/auth/login/factor", body)
    assert (again.status, reason(again)) == (400, "invalid_token")


async def test_a_passkey_of_another_account_is_no_second_factor(
    house: House, authenticator: Authenticator
) -> None:
    await house.register("bob@example.com")
    bobs = Authenticator(URL)
    bob = str((await house.sign_in("bob@example.com"))["access_token"])
    await add_passkey(house, bobs, bob)
    asked = await first_step(house)
    options = asked["passkey"]["public_key"]
    credential = bobs.get({**options, "allowCredentials": []})
    answer = await house.ask(
        "POST",
        "/auth/login/factor",
        {
            "mfa_token": asked["mfa_token"],
            "passkey": {
                "challenge_token": asked["passkey"]["challenge_token"],
                "credential": credential,
            },
        },
    )
    assert is_refused(answer)


async def test_the_options_of_a_sign_in_alone_are_of_no_use_as_a_factor(
    house: House, authenticator: Authenticator
) -> None:
    asked, alone = await first_step(house), await asked_to_sign_in(house)
    body = {"mfa_token": asked["mfa_token"], "passkey": answer_to(authenticator, alone)}
    answer = await house.ask("POST", "/auth/login/factor", body)
    assert (answer.status, reason(answer)) == (400, "invalid_token")
    body = answer_to(authenticator, asked["passkey"])
    answer = await house.ask("POST", SIGN_IN, body)
    assert (answer.status, reason(answer)) == (400, "invalid_token")


async def test_a_session_is_stepped_up_with_a_passkey(
    house: House, authenticator: Authenticator
) -> None:
    token = await signed_in_by_passkey(house, authenticator)
    house.clock.move(600)
    refused = await house.ask("POST", f"{PASSKEYS}/options", token=token)
    assert reason(refused) == "insufficient_user_authentication"
    asked = told(await house.ask("POST", "/auth/step-up", {}, token=token))
    assert asked["factors"] == ["passkey", "recovery_code"]
    body = {"passkey": answer_to(authenticator, asked["passkey"])}
    stepped_up = await house.ask("POST", "/auth/step-up", body, token=token)
    assert stepped_up.status == 200, stepped_up.body
    fresh = told(stepped_up)["access_token"]
    assert (await house.ask("POST", f"{PASSKEYS}/options", token=fresh)).status == 200
    again = await house.ask("POST", "/auth/step-up", body, token=fresh)
    assert reason(again) == "invalid_token"
