"""`/auth/login/passkey` through real sockets: sign-in with a passkey alone."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.log import AuditKind
from gateway.edge.endpoints.rate_limits import TOLD
from gateway.identity.factors.challenges import CHALLENGE_TTL_S
from gateway.identity.factors.passkeys import remove_passkeys
from gateway.identity.sign_in.throttle import ADDRESS_FAILURES
from tests.authenticator import (
    BACKED_UP,
    BACKUP_ELIGIBLE,
    USER_PRESENT,
    USER_VERIFIED,
    Authenticator,
    StoredCredential,
    b64,
    shared_references,
    unb64,
)
from tests.cpu_cost import awaited_cost_ratio
from tests.edge.auth_house import CREDENTIALS, EMAIL, URL, House, open_house, reason, request, told
from tests.edge.endpoints.mail_house import OTHER, MailHouse
from tests.edge.endpoints.passkey_calls import (
    PASSKEYS,
    SIGN_IN,
    add_passkey,
    asked_to_register,
    asked_to_sign_in,
    claims,
    is_refused,
    outbox,
    sign_in,
    signed_in_by_passkey,
)


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


async def test_a_passkey_signs_in_without_a_password(
    house: House, authenticator: Authenticator
) -> None:
    options = (await asked_to_sign_in(house))["public_key"]
    assert options["rpId"] == "gate.example"
    assert options["userVerification"] == "required"
    assert options["allowCredentials"] == []
    answer = await sign_in(house, authenticator)
    body = told(answer)
    assert body["user"]["email"] == EMAIL
    assert claims(house, body["access_token"])["amr"] == ["hwk", "user", "mfa"]
    assert any(value.startswith(b"__Host-device=") for value in answer.values("set-cookie"))
    event = house.recorded.events[-1]
    assert (event.kind, event.detail["amr"]) == (AuditKind.SIGNED_IN, ["hwk", "user", "mfa"])

    by_cookie = await sign_in(house, authenticator, transport="cookie")
    assert "access_token" not in told(by_cookie)
    assert any(value.startswith(b"__Host-session=") for value in by_cookie.values("set-cookie"))


async def test_a_passkey_that_can_be_copied_is_no_hardware_key(house: House) -> None:
    copied = Authenticator(URL, flags=USER_PRESENT | USER_VERIFIED | BACKUP_ELIGIBLE)
    await add_passkey(house, copied)
    token = await signed_in_by_passkey(house, copied)
    assert claims(house, token)["amr"] == ["swk", "user", "mfa"]


async def test_an_assertion_counts_once(house: House, authenticator: Authenticator) -> None:
    options = await asked_to_sign_in(house)
    body = {
        "challenge_token": options["challenge_token"],
        "credential": authenticator.get(options["public_key"]),
    }
    assert (await house.ask("POST", SIGN_IN, body)).status == 200
    again = await house.ask("POST", SIGN_IN, body)
    assert (again.status, reason(again)) == (400, "invalid_token")
    assert told(again)["detail"].startswith("The challenge ")


async def test_an_answer_that_is_sent_again_and_again_uses_up_nothing_of_its_owner(
    house: House, authenticator: Authenticator
) -> None:
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    options = await asked_to_sign_in(house)
    body = {
        "challenge_token": options["challenge_token"],
        "credential": authenticator.get(options["public_key"]),
    }
    assert (await house.ask("POST", SIGN_IN, body)).status == 200
    # One of a day is left.
    while await house.deps.limits.passkey_use_wait_s(account.id) == 0.0:
        pass
    house.clock.move(9)
    for _ in range(3):
        assert (await house.ask("POST", SIGN_IN, body)).status == 400
    assert (await sign_in(house, authenticator)).status == 200


async def test_a_challenge_is_over_after_five_minutes(
    house: House, authenticator: Authenticator
) -> None:
    options = await asked_to_sign_in(house)
    assert options["expires_in"] == CHALLENGE_TTL_S
    house.clock.move(CHALLENGE_TTL_S)
    body = {
        "challenge_token": options["challenge_token"],
        "credential": authenticator.get(options["public_key"]),
    }
    answer = await house.ask("POST", SIGN_IN, body)
    assert (answer.status, reason(answer)) == (400, "invalid_token")


async def test_a_challenge_of_a_registration_signs_nobody_in(
    house: House, authenticator: Authenticator
) -> None:
    token = await signed_in_by_passkey(house, authenticator)
    asked = await asked_to_register(house, token)
    options = {"rpId": "gate.example", "challenge": asked["public_key"]["challenge"]}
    body = {
        "challenge_token": asked["challenge_token"],
        "credential": authenticator.get(options),
    }
    answer = await house.ask("POST", SIGN_IN, body)
    assert reason(answer) == "invalid_token"


async def test_a_challenge_of_another_call_is_refused(
    house: House, authenticator: Authenticator
) -> None:
    mine, other = await asked_to_sign_in(house), await asked_to_sign_in(house)
    body = {
        "challenge_token": mine["challenge_token"],
        "credential": authenticator.get(other["public_key"]),
    }
    assert is_refused(await house.ask("POST", SIGN_IN, body))


async def test_an_assertion_for_a_page_of_another_origin_is_refused(
    house: House, authenticator: Authenticator
) -> None:
    """A page that looks like ours gets a signature over its own origin."""
    for wrong in (
        {"origin": "https://evil.example"},
        {"origin": "https://app1.example"},
        {"origin": "https://gate.example:444"},
        {"origin": "http://gate.example"},
        {"crossOrigin": True},
        {"topOrigin": "https://evil.example"},
        {"type": "webauthn.create"},
        {"challenge": "AAAA"},
    ):
        authenticator.client_data = wrong
        assert is_refused(await sign_in(house, authenticator)), wrong


async def test_a_passkey_of_another_relying_party_is_refused(
    house: House, authenticator: Authenticator
) -> None:
    options = await asked_to_sign_in(house)
    public_key = {**options["public_key"], "rpId": "example"}
    body = {
        "challenge_token": options["challenge_token"],
        "credential": authenticator.get(public_key, authenticator.credentials[0]),
    }
    assert is_refused(await house.ask("POST", SIGN_IN, body))


async def test_who_was_not_verified_does_not_sign_in_with_a_passkey_alone(
    house: House, authenticator: Authenticator
) -> None:
    """Whoever finds the key would be its owner."""
    for flags in (USER_PRESENT, USER_VERIFIED, 0):
        authenticator.flags = flags
        assert is_refused(await sign_in(house, authenticator))


async def test_a_passkey_of_one_account_signs_in_to_no_other(
    house: House, authenticator: Authenticator
) -> None:
    await house.register("bob@example.com")
    bob = str((await house.sign_in("bob@example.com"))["access_token"])
    others = (await asked_to_register(house, bob))["public_key"]["user"]["id"]
    own = authenticator.credentials[0]
    for handle in (unb64(others), b"", b"x" * 64):
        authenticator.credentials[0] = StoredCredential(own.id, own.rp_id, handle, own.private_key)
        assert is_refused(await sign_in(house, authenticator))


async def test_an_unknown_passkey_is_refused_as_one_whose_signature_is_wrong(
    house: House, authenticator: Authenticator
) -> None:
    stranger = Authenticator(URL)
    stranger.credentials.append(
        StoredCredential(
            b"unknown", "gate.example", b"nobody", authenticator.credentials[0].private_key
        )
    )
    unknown = await sign_in(house, stranger)
    options = await asked_to_sign_in(house)
    credential = authenticator.get(options["public_key"])
    credential["response"]["signature"] = b64(b"wrong")
    wrong = await house.ask(
        "POST",
        SIGN_IN,
        {"challenge_token": options["challenge_token"], "credential": credential},
    )
    for answer in (unknown, wrong):
        assert is_refused(answer)
        assert told(answer)["detail"] == "The passkey does not count here."
    assert {**told(unknown), "request_id": ""} == {**told(wrong), "request_id": ""}
    failures = [e for e in house.recorded.events if e.kind is AuditKind.SIGN_IN_FAILED]
    assert [(e.subject, e.detail) for e in failures] == [(None, {"by": "passkey"})] * 2


async def test_what_is_no_assertion_is_refused(house: House, authenticator: Authenticator) -> None:
    options = await asked_to_sign_in(house)
    good = authenticator.get(options["public_key"])
    bad: list[dict[str, Any]] = [{}, {**good, "type": "password"}, {**good, "id": "AAAA"}]
    for name in ("clientDataJSON", "authenticatorData", "signature", "userHandle"):
        values: list[Any] = ["", "=", "AA==", "é", 7, None, [], "A" * 1_000, "AAAA"]
        for value in values:
            changed = copy.deepcopy(good)
            changed["response"][name] = value
            bad.append(changed)
    for credential in bad:
        token = (await asked_to_sign_in(house))["challenge_token"]
        answer = await house.ask(
            "POST", SIGN_IN, {"challenge_token": token, "credential": credential}
        )
        assert answer.status in (401, 429), credential
        house.clock.move(901)
    assert house.recorded.events[-1].kind is AuditKind.SIGN_IN_FAILED


async def test_a_few_bytes_of_a_stranger_that_stand_for_many_keep_nobody_waiting(
    house: House, authenticator: Authenticator
) -> None:
    """Shared references (CBOR tag 29): a reader that follows these is busy for a second, and for
    hours with some more."""
    authenticator.extensions = shared_references(18)

    async def ask() -> None:
        assert is_refused(await sign_in(house, authenticator))

    assert await awaited_cost_ratio(ask, rounds=2) < 200


async def test_a_counter_that_does_not_grow_is_refused_and_told(
    house: House, authenticator: Authenticator
) -> None:
    """Two authenticators that count for one key: it was copied (WebAuthn, section 6.1.1)."""
    copied = copy.copy(authenticator)
    await signed_in_by_passkey(house, authenticator)
    assert is_refused(await sign_in(house, copied))
    event = house.recorded.events[-2]
    assert (event.kind, event.detail["why"]) == (AuditKind.PASSKEY_REFUSED, "sign_counter")
    assert event.subject is not None
    assert "passkey_refused" in await outbox(house)
    await signed_in_by_passkey(house, authenticator)


async def test_a_counter_counts_only_under_a_good_signature(
    house: House, authenticator: Authenticator
) -> None:
    """A stranger who knows the id of a credential makes no alarm."""
    await signed_in_by_passkey(house, authenticator)
    options = await asked_to_sign_in(house)
    copied = copy.copy(authenticator)
    copied.sign_count = 0
    credential = copied.get(options["public_key"])
    credential["response"]["signature"] = b64(b"wrong")
    body = {"challenge_token": options["challenge_token"], "credential": credential}
    assert is_refused(await house.ask("POST", SIGN_IN, body))
    assert house.recorded.events[-1].kind is AuditKind.SIGN_IN_FAILED
    assert house.recorded.events[-2].kind is not AuditKind.PASSKEY_REFUSED


async def test_an_authenticator_that_counts_nothing_signs_in_again_and_again(
    house: House,
) -> None:
    authenticator = Authenticator(URL, sign_count=None)
    await add_passkey(house, authenticator)
    for _ in range(2):
        await signed_in_by_passkey(house, authenticator)


async def test_a_change_of_the_backup_is_told(house: House) -> None:
    authenticator = Authenticator(URL, flags=USER_PRESENT | USER_VERIFIED | BACKUP_ELIGIBLE)
    await add_passkey(house, authenticator)
    authenticator.flags |= BACKED_UP
    token = await signed_in_by_passkey(house, authenticator)
    await signed_in_by_passkey(house, authenticator)
    told_of = [e for e in house.recorded.events if e.kind is AuditKind.PASSKEY_BACKUP_CHANGED]
    assert [event.detail["backed_up"] for event in told_of] == [True]
    (listed,) = told(await house.ask("GET", PASSKEYS, token=token))["passkeys"]
    assert listed["backed_up"] is True


async def test_what_a_passkey_says_anew_each_time_is_written_so_often_and_then_counted(
    house: House, authenticator: Authenticator
) -> None:
    """Nothing but a good signature was asked for it: not whether the account may sign in."""
    by_software = Authenticator(URL, flags=USER_PRESENT | USER_VERIFIED | BACKUP_ELIGIBLE)
    copied = copy.copy(authenticator)
    await add_passkey(house, by_software, await signed_in_by_passkey(house, authenticator))
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    for _ in range(TOLD[0].burst):
        assert await house.deps.limits.told_event_wait_s(account.id) == 0.0
    house.recorded.events.clear()
    by_software.flags ^= BACKED_UP
    token = await signed_in_by_passkey(house, by_software)
    assert is_refused(await sign_in(house, copied))
    told_of = {event.kind for event in house.recorded.events}
    assert told_of == {AuditKind.SIGNED_IN, AuditKind.SIGN_IN_FAILED}
    assert house.recorded.denials == [
        ("passkey_backup_changed", None, account.id),
        ("passkey_refused", None, account.id),
    ]
    assert "passkey_refused" in await outbox(house)  # its owner is told all the same
    listed = told(await house.ask("GET", PASSKEYS, token=token))["passkeys"]
    assert [passkey["backed_up"] for passkey in listed].count(True) == 1


async def test_a_sign_in_that_is_refused_for_its_number_leaves_no_event_of_its_own(
    house: House,
) -> None:
    by_software = Authenticator(URL, flags=USER_PRESENT | USER_VERIFIED | BACKUP_ELIGIBLE)
    await add_passkey(house, by_software)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    while await house.deps.limits.account_wait_s(account.id, True) == 0.0:
        pass
    while await house.deps.limits.told_event_wait_s(account.id) == 0.0:
        pass
    house.recorded.events.clear()
    for _ in range(3):
        by_software.flags ^= BACKED_UP
        early = await sign_in(house, by_software)
        assert (early.status, reason(early)) == (429, "rate_limited")
    assert house.recorded.events == []


async def test_a_key_that_becomes_one_that_can_be_copied_is_refused(
    house: House, authenticator: Authenticator
) -> None:
    authenticator.flags |= BACKUP_ELIGIBLE
    assert is_refused(await sign_in(house, authenticator))
    assert house.recorded.events[-2].detail["why"] == "backup_eligibility"


async def test_a_disabled_account_does_not_sign_in(
    house: House, authenticator: Authenticator
) -> None:
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    await house.deps.accounts.disable(account.id)
    answer = await sign_in(house, authenticator)
    assert (answer.status, reason(answer)) == (403, "account_disabled")


async def test_a_passkey_that_is_removed_while_it_is_used_opens_nothing(
    house: House, authenticator: Authenticator
) -> None:
    """Whoever has stolen one uses it again and again: its removal ends the sessions that there are,
    and none may come after it."""
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    removing: list[asyncio.Task[None]] = []

    async def remove() -> None:
        async with house.database.transaction() as tx:
            await remove_passkeys(tx, account.id)

    async def used() -> None:
        house.database.before_commit = None
        # It waits for the writer, before the session does.
        removing.append(asyncio.create_task(remove()))
        await asyncio.sleep(0)

    house.database.before_commit = used
    answer = await sign_in(house, authenticator)
    await asyncio.gather(*removing)
    assert len(removing) == 1
    assert is_refused(answer)


@pytest.mark.parametrize("verified", [False, True])
async def test_who_registered_the_address_of_somebody_else_keeps_no_passkey(
    house: House, authenticator: Authenticator, verified: bool
) -> None:
    """Whoever reads its mail sets a password one day, and knows nothing of passkeys that are there;
    of an address that was theirs before they are their own."""
    async with house.database.transaction() as tx:
        await tx.run("UPDATE accounts SET email_verified = :verified", verified=int(verified))
    mail = MailHouse(house, house.deps.mailer)
    await mail.post("/auth/password/forgot", email=EMAIL)
    token = (await mail.links())[0]
    assert (await mail.post("/auth/password/reset", token=token, password=OTHER)).status == 204
    house.clock.move(1)
    answer = await sign_in(house, authenticator)
    assert (answer.status == 200) is verified
    if not verified:
        assert is_refused(answer)


async def test_a_page_of_another_origin_signs_nobody_in(
    house: House, authenticator: Authenticator
) -> None:
    options = await asked_to_sign_in(house)
    body = {
        "challenge_token": options["challenge_token"],
        "credential": authenticator.get(options["public_key"]),
    }
    answer = await house.ask("POST", SIGN_IN, body, headers=["Sec-Fetch-Site: cross-site"])
    assert (answer.status, reason(answer)) == (403, "cross_origin")


async def test_failures_of_an_address_are_bounded_and_no_account_is_locked_by_them(
    house: House, authenticator: Authenticator
) -> None:
    stranger = Authenticator(URL)
    stranger.credentials.append(
        StoredCredential(
            b"unknown", "gate.example", b"nobody", authenticator.credentials[0].private_key
        )
    )
    for _ in range(ADDRESS_FAILURES):
        assert is_refused(await sign_in(house, stranger))
    answer = await sign_in(house, stranger)
    assert (answer.status, reason(answer)) == (429, "too_many_attempts")
    body = {**CREDENTIALS}  # a password is still asked for its factor
    answer = await house.ask("POST", "/auth/login", body)
    assert told(answer)["factors"] == ["passkey", "recovery_code"]


async def test_a_thousand_options_leave_nothing_behind(
    house: House, authenticator: Authenticator
) -> None:
    first = await asked_to_sign_in(house)
    challenges = {first["public_key"]["challenge"]}
    client = await house.client()
    for _ in range(999):
        await client.send(request("POST", f"{SIGN_IN}/options", b""))
        challenges.add(told(await client.answer())["public_key"]["challenge"])
    assert len(challenges) == 1_000
    body = {
        "challenge_token": first["challenge_token"],
        "credential": authenticator.get(first["public_key"]),
    }
    assert (await house.ask("POST", SIGN_IN, body)).status == 200
