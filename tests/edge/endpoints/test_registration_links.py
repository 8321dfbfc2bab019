"""Registrations, and the mailed links that make accounts of them, through real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.mail.recipients import requester_of
from gateway.identity.sign_in.devices import Device
from tests.edge.auth_house import CREDENTIALS, EMAIL, PASSWORD, open_house, reason, told
from tests.edge.endpoints.mail_house import ATTACKERS, OTHER, MailHouse, token_in
from tests.edge.endpoints.sign_in_calls import device_of, login, patiently


@pytest.fixture
async def mail(tmp_path: Path) -> AsyncIterator[MailHouse]:
    async with open_house(tmp_path, verification="required") as house:
        yield MailHouse(house, house.deps.mailer)


async def test_registering_says_the_same_for_known_and_unknown_addresses(
    mail: MailHouse,
) -> None:
    await mail.house.register()
    answers = [
        await mail.post("/auth/register", email=email, password=PASSWORD)
        for email in (EMAIL, "new@example.com")
    ]
    assert [answer.status for answer in answers] == [202, 202]
    assert [told(answer) for answer in answers] == [{"status": "verification_sent"}] * 2


async def test_what_is_registered_and_not_confirmed_is_no_account(mail: MailHouse) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    waiting = await mail.post("/auth/login", **CREDENTIALS)
    unknown = await mail.post("/auth/login", email="nobody@example.com", password=PASSWORD)
    assert (waiting.status, reason(waiting)) == (401, "invalid_credentials")
    bodies = [{**told(answer), "request_id": ""} for answer in (waiting, unknown)]
    assert bodies[0] == bodies[1]
    assert await mail.house.deps.accounts.by_email(EMAIL) is None


async def test_registering_tells_nobody_which_addresses_have_an_account(mail: MailHouse) -> None:
    """A stranger registers an address with a password, and tries to sign in with it."""
    await mail.house.register("known@example.com")
    answers = []
    for email in ("known@example.com", "unknown@example.com"):
        mine = {"email": email, "password": OTHER}
        await mail.post("/auth/register", **mine)
        await mail.links()
        answers.append(await mail.post("/auth/login", **mine))
    assert [(answer.status, reason(answer)) for answer in answers] == [
        (401, "invalid_credentials")
    ] * 2


async def test_the_link_and_the_password_of_the_registration_make_the_account(
    mail: MailHouse,
) -> None:
    await mail.post("/auth/register", email=" Alice@Example.com ", password=PASSWORD)
    (token,) = await mail.links()
    answer = await mail.post("/auth/email/verify", token=token, password=PASSWORD)
    assert (answer.status, answer.body) == (204, b"")
    session = told(await mail.post("/auth/login", **CREDENTIALS))
    me = told(await mail.house.ask("GET", "/auth/me", token=session["access_token"]))
    assert (me["email"], me["email_verified"]) == ("Alice@Example.com", True)


async def test_who_tried_to_sign_in_too_early_signs_in_right_after_confirming(
    mail: MailHouse,
) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    (token,) = await mail.links()
    for _ in range(3):
        assert (await mail.post("/auth/login", **CREDENTIALS)).status in (401, 429)
    body = {"token": token, "password": PASSWORD}
    assert (await mail.post("/auth/email/verify", **body)).status == 204
    assert (await mail.post("/auth/login", **CREDENTIALS)).status == 200


async def test_strangers_do_not_lock_out_the_browser_that_confirmed_the_address(
    mail: MailHouse,
) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    (token,) = await mail.links()
    body = {"token": token, "password": PASSWORD}
    confirmed = await mail.post("/auth/email/verify", **body)
    guess = {"email": EMAIL, "password": "wrong one 17"}
    assert (await patiently(mail.house, guess, 12))[-1] == 429
    assert (await login(mail.house, CREDENTIALS)).status == 429
    assert (await login(mail.house, CREDENTIALS, device_of(confirmed))).status == 200


async def test_a_wrong_password_leaves_the_link_good(mail: MailHouse) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    (token,) = await mail.links()
    wrong = await mail.post("/auth/email/verify", token=token, password="wrong one 17")
    assert (wrong.status, reason(wrong)) == (401, "invalid_credentials")
    assert await mail.house.deps.accounts.by_email(EMAIL) is None
    right = await mail.post("/auth/email/verify", token=token, password=PASSWORD)
    assert right.status == 204


async def test_a_link_without_the_password_is_422_and_stays_good(mail: MailHouse) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    (token,) = await mail.links()
    answer = await mail.post("/auth/email/verify", token=token)
    assert (answer.status, reason(answer)) == (422, "body_invalid")
    assert told(answer)["errors"] == [{"field": "password", "problem": "is missing"}]
    answer = await mail.post("/auth/email/verify", token=token, password=PASSWORD)
    assert answer.status == 204


async def test_passwords_tried_with_a_link_are_throttled_by_that_link_alone(
    mail: MailHouse,
) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    await mail.post("/auth/register", email="bob@example.com", password=OTHER)
    links = {w.recipient: token_in(w.content.text) for w in await mail.letters()}
    for number in range(5):
        wrong = await mail.post(
            "/auth/email/verify", token=links[EMAIL], password=f"wrong one {number}"
        )
        assert wrong.status == 401
    refused = await mail.post("/auth/email/verify", token=links[EMAIL], password=PASSWORD)
    assert (refused.status, reason(refused)) == (429, "too_many_attempts")
    other = await mail.post("/auth/email/verify", token=links["bob@example.com"], password=OTHER)
    assert other.status == 204
    mail.house.clock.move(901)
    late = await mail.post("/auth/email/verify", token=links[EMAIL], password=PASSWORD)
    assert late.status == 204


async def test_failed_sign_ins_of_strangers_shut_no_owner_out_of_the_link(
    mail: MailHouse,
) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    (token,) = await mail.links()
    for number in range(7):
        await mail.post("/auth/login", email=EMAIL, password=f"wrong one {number}")
    answer = await mail.post("/auth/email/verify", token=token, password=PASSWORD)
    assert answer.status == 204


async def test_a_link_works_once(mail: MailHouse) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    (token,) = await mail.links()
    body = {"token": token, "password": PASSWORD}
    assert (await mail.post("/auth/email/verify", **body)).status == 204
    again = await mail.post("/auth/email/verify", **body)
    assert (again.status, reason(again)) == (400, "invalid_token")


async def test_a_registration_ends_with_its_link(mail: MailHouse) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    (token,) = await mail.links()
    mail.house.clock.move(86_400)
    late = await mail.post("/auth/email/verify", token=token, password=PASSWORD)
    assert (late.status, reason(late)) == (400, "invalid_token")
    await mail.outbox.purge()
    async with mail.house.database.read_transaction() as tx:
        assert await tx.all("SELECT * FROM registrations") == []


async def test_whoever_registered_an_address_first_has_chosen_nobodys_password(
    mail: MailHouse,
) -> None:
    # An attacker registers the victim's address and waits for the victim to confirm it.
    await mail.as_from("198.51.100.7", EMAIL, ATTACKERS)
    await mail.as_from("203.0.113.9", EMAIL, PASSWORD)
    for token in await mail.links():
        await mail.post("/auth/email/verify", token=token, password=PASSWORD)
    stolen = await mail.post("/auth/login", email=EMAIL, password=ATTACKERS)
    assert stolen.status == 401
    mail.house.clock.move(1)
    assert (await mail.post("/auth/login", **CREDENTIALS)).status == 200


async def test_of_registrations_that_wait_in_the_outbox_the_newest_is_sent(
    mail: MailHouse,
) -> None:
    for number in range(4):
        await mail.post("/auth/register", email=EMAIL, password=f"{OTHER} {number}")
        mail.house.clock.move(1)
    (token,) = await mail.links()
    answer = await mail.post("/auth/email/verify", token=token, password=f"{OTHER} 3")
    assert answer.status == 204


async def test_a_letter_that_is_asked_for_again_confirms_the_same_registration(
    mail: MailHouse,
) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    (first,) = await mail.links()
    mail.house.clock.move(1)
    await mail.post("/auth/email/resend", email=EMAIL)
    again = (await mail.links())[0]
    assert again != first
    wrong = await mail.post("/auth/email/verify", token=again, password=OTHER)
    assert wrong.status == 401
    answer = await mail.post("/auth/email/verify", token=again, password=PASSWORD)
    assert answer.status == 204


async def test_a_stranger_who_asks_for_the_letter_again_ends_no_link_of_the_owner(
    mail: MailHouse,
) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    (mine,) = await mail.links()
    mail.house.clock.move(1)
    await mail.registrations().resend(EMAIL, requester_of("198.51.100.7"))
    assert len(await mail.links()) == 2
    answer = await mail.post("/auth/email/verify", token=mine, password=PASSWORD)
    assert answer.status == 204


async def test_nothing_is_sent_again_to_an_address_that_nobody_registered(
    mail: MailHouse,
) -> None:
    await mail.post("/auth/email/resend", email=EMAIL)
    assert await mail.letters() == []


@pytest.mark.parametrize("password_hash", [None, "bc$2b$10$" + "a" * 53])
async def test_a_registration_never_touches_an_account_that_an_operator_made(
    mail: MailHouse, password_hash: str | None
) -> None:
    """Unverified, with a role; imported, with a password of before or with none."""
    accounts = mail.house.deps.accounts
    await accounts.register(EMAIL, password_hash, roles=["admin"])
    before = await accounts.by_email(EMAIL)
    await mail.post("/auth/register", email=EMAIL, password=ATTACKERS)
    (letter,) = await mail.letters()
    assert "already have an account" in letter.content.subject
    assert "#token=" not in letter.content.text
    assert await accounts.by_email(EMAIL) == before
    assert (await mail.post("/auth/login", email=EMAIL, password=ATTACKERS)).status == 401


async def test_an_account_that_an_operator_made_is_confirmed_with_its_own_password(
    mail: MailHouse,
) -> None:
    password_hash = await mail.house.deps.passwords.hash(PASSWORD)
    assert isinstance(password_hash, str)
    await mail.house.deps.accounts.register(EMAIL, password_hash, roles=["admin"])
    early = await mail.post("/auth/login", **CREDENTIALS)
    assert (early.status, reason(early)) == (403, "email_unverified")
    await mail.post("/auth/email/resend", email=EMAIL)
    (token,) = await mail.links()
    wrong = await mail.post("/auth/email/verify", token=token, password=OTHER)
    assert (wrong.status, reason(wrong)) == (401, "invalid_credentials")
    right = await mail.post("/auth/email/verify", token=token, password=PASSWORD)
    assert right.status == 204
    assert (await mail.post("/auth/login", **CREDENTIALS)).status == 200


async def test_who_confirms_an_address_is_forgiven_what_devices_of_the_account_failed(
    mail: MailHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.identity.sign_in.throttle.DEVICES_FAILURES_A_DAY", 1)
    throttle = mail.house.deps.throttle
    password_hash = await mail.house.deps.passwords.hash(PASSWORD)
    assert isinstance(password_hash, str)
    account = await mail.house.deps.accounts.register(EMAIL, password_hash)
    assert isinstance(account, Account)
    one, other = (Device(name * 22, ("t" * 32,), account.password_epoch) for name in "ab")
    await throttle.failed(await throttle.reserve(EMAIL, "192.0.2.7", one))
    assert (await throttle.reserve(EMAIL, "192.0.2.7", other)).wait_s > 0
    await mail.post("/auth/email/resend", email=EMAIL)
    (token,) = await mail.links()
    answer = await mail.post("/auth/email/verify", token=token, password=PASSWORD)
    assert answer.status == 204, answer.body
    assert (await throttle.reserve(EMAIL, "192.0.2.7", other)).wait_s == 0


async def test_an_account_made_while_a_registration_waited_is_not_taken_over(
    mail: MailHouse,
) -> None:
    await mail.post("/auth/register", email=EMAIL, password=ATTACKERS)
    (token,) = await mail.links()
    account = await mail.house.register()
    answer = await mail.post("/auth/email/verify", token=token, password=ATTACKERS)
    assert (answer.status, reason(answer)) == (400, "invalid_token")
    assert await mail.house.deps.accounts.by_email(EMAIL) == account


async def test_a_confirmed_address_outdates_the_token_that_says_otherwise(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path, verification="optional") as house:
        mail = MailHouse(house, house.deps.mailer)
        await mail.post("/auth/register", **CREDENTIALS)
        session = await house.sign_in()
        me = told(await house.ask("GET", "/auth/me", token=session["access_token"]))
        assert me["email_verified"] is False
        (token,) = await mail.links()
        body = {"token": token, "password": PASSWORD}
        assert (await mail.post("/auth/email/verify", **body)).status == 204
        old = await house.ask("GET", "/auth/me", token=session["access_token"])
        assert (old.status, reason(old)) == (401, "token_outdated")
        fresh = told(await mail.post("/auth/refresh", refresh_token=session["refresh_token"]))
        me = told(await house.ask("GET", "/auth/me", token=fresh["access_token"]))
        assert me["email_verified"] is True


async def test_where_sign_in_waits_for_no_mail_a_second_registration_changes_nothing(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path, verification="optional") as house:
        mail = MailHouse(house, house.deps.mailer)
        await mail.post("/auth/register", email=EMAIL, password=ATTACKERS)
        before = await house.deps.accounts.by_email(EMAIL)
        house.clock.move(1)
        answer = await mail.post("/auth/register", **CREDENTIALS)
        assert (answer.status, told(answer)) == (202, {"status": "verification_sent"})
        assert await house.deps.accounts.by_email(EMAIL) == before
        newest = (await mail.letters())[0]
        assert "already have an account" in newest.content.subject
        await mail.post("/auth/password/forgot", email=EMAIL)
        reset = {"token": (await mail.links())[0], "password": PASSWORD}
        assert (await mail.post("/auth/password/reset", **reset)).status == 204
        assert (await mail.post("/auth/login", email=EMAIL, password=ATTACKERS)).status == 401
        mail.house.clock.move(1)
        assert (await mail.post("/auth/login", **CREDENTIALS)).status == 200


@pytest.mark.parametrize(
    ("rules", "takes"),
    [
        (RegistrationRules("closed"), False),
        (RegistrationRules("invited"), False),
        (RegistrationRules("open", frozenset({"another.example"})), False),
        (RegistrationRules("open"), True),
    ],
)
async def test_what_waits_when_registration_closes_makes_no_account(
    tmp_path: Path, rules: RegistrationRules, takes: bool
) -> None:
    async with open_house(tmp_path, verification="required", registration_rules=rules) as house:
        mail = MailHouse(house, house.deps.mailer)
        await mail.as_from("192.0.2.9", EMAIL, PASSWORD)
        (token,) = await mail.links()
        answer = await mail.post("/auth/email/verify", token=token, password=PASSWORD)
        assert answer.status == (204 if takes else 400), answer.body
        assert (await house.deps.accounts.by_email(EMAIL) is not None) == takes
