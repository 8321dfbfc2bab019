"""Passwords reset by mailed links, and what bounds the letters, through real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.mail.recipients import requester_of
from tests.edge.auth_house import CREDENTIALS, EMAIL, PASSWORD, open_house, reason, told
from tests.edge.endpoints.mail_house import ATTACKERS, OTHER, MailHouse


@pytest.fixture
async def mail(tmp_path: Path) -> AsyncIterator[MailHouse]:
    async with open_house(tmp_path, verification="required") as house:
        yield MailHouse(house, house.deps.mailer)


async def test_a_reset_takes_no_password_that_is_made_of_the_owners_address(
    mail: MailHouse,
) -> None:
    await mail.house.register("qwibblefrotz@example.com")
    await mail.post("/auth/password/forgot", email="qwibblefrotz@example.com")
    (token,) = await mail.links()
    answer = await mail.post("/auth/password/reset", token=token, password="qwibblefrotz")
    assert (answer.status, reason(answer)) == (422, "weak_password")
    assert "your address" in told(answer)["detail"]


async def test_who_floods_a_mailbox_keeps_no_owners_letter_from_it(mail: MailHouse) -> None:
    """The stranger's letters are counted by the stranger, and replace one another; the
    owner's link is good whichever came last."""
    for _ in range(9):
        await mail.as_from("198.51.100.7", EMAIL, ATTACKERS)
        await mail.outbox.drain()
    await mail.as_from("203.0.113.9", EMAIL, PASSWORD)
    await mail.outbox.drain()
    await mail.as_from("198.51.100.7", EMAIL, ATTACKERS)
    answers = [
        (await mail.post("/auth/email/verify", token=token, password=PASSWORD)).status
        for token in await mail.links()
    ]
    assert answers.count(204) == 1
    assert set(answers) <= {204, 400, 401}
    assert (await mail.post("/auth/login", **CREDENTIALS)).status == 200


async def test_three_who_ask_in_the_owners_name_keep_no_owner_from_a_reset(
    mail: MailHouse,
) -> None:
    """Whoever comes when the links of their letters are over gets one that is good."""
    await mail.house.register()
    forgot = mail.registrations().forgot
    for network in range(3):
        for _ in range(5):
            await forgot(EMAIL, requester_of(f"198.51.{network}.7"))
    assert len(await mail.links()) == 15
    mail.house.clock.move(1_800)
    await forgot(EMAIL, requester_of("203.0.113.9"))
    newest = (await mail.links())[0]
    answer = await mail.post("/auth/password/reset", token=newest, password=OTHER)
    assert answer.status == 204


async def test_who_shares_the_owners_network_keeps_no_owner_from_a_reset(mail: MailHouse) -> None:
    await mail.house.register()
    forgot, network = mail.registrations().forgot, requester_of("203.0.113.9")
    for _ in range(6):
        await forgot(EMAIL, network)
    assert len(await mail.links()) == 5
    mail.house.clock.move(1_800)
    await forgot(EMAIL, network)
    newest = (await mail.links())[0]
    answer = await mail.post("/auth/password/reset", token=newest, password=OTHER)
    assert answer.status == 204


@pytest.mark.parametrize(("age_s", "letters"), [(3_700, 6), (60, 5)])
async def test_an_account_has_to_be_older_than_the_letters_that_count_or_confirmed(
    mail: MailHouse, age_s: int, letters: int
) -> None:
    """Else whoever makes one again and again in a stranger's name would fill their mailbox."""
    account = await mail.house.deps.accounts.register(EMAIL, "hash")
    assert isinstance(account, Account)
    mail.house.clock.move(age_s)
    forgot, network = mail.registrations().forgot, requester_of("203.0.113.9")
    for _ in range(6):
        await forgot(EMAIL, network)
    assert len(await mail.links()) == 5
    mail.house.clock.move(1_800)
    await forgot(EMAIL, network)
    assert len(await mail.links()) == letters


async def test_who_asks_for_resets_all_hour_sends_a_bounded_number_of_letters(
    mail: MailHouse,
) -> None:
    await mail.house.register()
    for number in range(120):
        await mail.registrations().forgot(EMAIL, requester_of(f"198.51.{number}.7"))
        await mail.outbox.drain()
        mail.house.clock.move(29)
    assert len(await mail.letters()) <= 15 + 6


async def test_one_mailbox_gets_a_bounded_number_of_letters_from_everybody(
    mail: MailHouse,
) -> None:
    for number in range(40):
        await mail.as_from(f"198.51.100.{number}", EMAIL, ATTACKERS)
        await mail.outbox.drain()
    assert len(await mail.letters()) == 15


async def test_registrations_use_up_no_letter_that_resets_a_password(mail: MailHouse) -> None:
    await mail.house.register()
    for _ in range(6):
        await mail.post("/auth/register", email=EMAIL, password=ATTACKERS)
        await mail.outbox.drain()
    await mail.post("/auth/password/forgot", email=EMAIL)
    assert len(await mail.links()) == 1


async def test_the_newest_letter_of_a_requester_replaces_the_older_ones(mail: MailHouse) -> None:
    await mail.post("/auth/register", email=EMAIL, password=OTHER)
    (older,) = await mail.links()
    mail.house.clock.move(1)
    await mail.post("/auth/register", **CREDENTIALS)
    newest = (await mail.links())[0]
    answer = await mail.post("/auth/email/verify", token=older, password=OTHER)
    assert (answer.status, reason(answer)) == (400, "invalid_token")
    answer = await mail.post("/auth/email/verify", token=newest, password=PASSWORD)
    assert answer.status == 204


async def test_resend_and_forgot_are_always_202(mail: MailHouse) -> None:
    await mail.house.register()
    for path, status in (
        ("/auth/email/resend", "verification_sent"),
        ("/auth/password/forgot", "reset_sent"),
    ):
        for email in (EMAIL, "nobody@example.com"):
            answer = await mail.post(path, email=email)
            assert answer.status == 202
            assert told(answer) == {"status": status}


async def test_a_reset_sets_the_password_ends_every_session_and_lifts_the_lockout(
    mail: MailHouse,
) -> None:
    await mail.house.register()
    session = await mail.house.sign_in()
    for _ in range(6):
        locked = await mail.post("/auth/login", email=EMAIL, password="wrong one 17")
        mail.house.clock.move(8)
    assert locked.status == 429
    await mail.post("/auth/password/forgot", email=EMAIL)
    (token,) = await mail.links()
    weak = await mail.post("/auth/password/reset", token=token, password="password1")
    assert (weak.status, reason(weak)) == (422, "weak_password")
    answer = await mail.post("/auth/password/reset", token=token, password=OTHER)
    assert (answer.status, answer.body) == (204, b"")
    me = await mail.house.ask("GET", "/auth/me", token=session["access_token"])
    assert (me.status, reason(me)) == (401, "token_revoked")
    assert (await mail.post("/auth/login", **CREDENTIALS)).status == 401
    mail.house.clock.move(1)
    assert (await mail.post("/auth/login", email=EMAIL, password=OTHER)).status == 200
    again = await mail.post("/auth/password/reset", token=token, password=PASSWORD)
    assert (again.status, reason(again)) == (400, "invalid_token")


async def test_one_link_hashes_a_bounded_number_of_new_passwords(mail: MailHouse) -> None:
    """Whoever has an account has a link: it is no way to keep the hashing threads busy."""
    await mail.house.register()
    await mail.post("/auth/password/forgot", email=EMAIL)
    (token,) = await mail.links()
    for _ in range(20):
        weak = await mail.post("/auth/password/reset", token=token, password="password1")
        assert weak.status == 422
    refused = await mail.post("/auth/password/reset", token=token, password=OTHER)
    assert (refused.status, reason(refused)) == (429, "too_many_attempts")
    await mail.post("/auth/password/forgot", email=EMAIL)
    another = next(found for found in await mail.links() if found != token)
    answer = await mail.post("/auth/password/reset", token=another, password=OTHER)
    assert answer.status == 204


async def test_a_reset_that_no_worker_confirms_says_so(mail: MailHouse) -> None:
    await mail.house.register()
    await mail.post("/auth/password/forgot", email=EMAIL)
    (token,) = await mail.links()
    mail.house.workers.confirm = False
    answer = await mail.post("/auth/password/reset", token=token, password=OTHER)
    assert (answer.status, reason(answer)) == (503, "revocation_pending")


async def test_a_changed_password_ends_no_link_that_resets_it(mail: MailHouse) -> None:
    """A thief of the session and the password must not take the account from its owner."""
    await mail.house.register()
    await mail.post("/auth/password/forgot", email=EMAIL)
    (token,) = await mail.links()
    session = await mail.house.sign_in()
    changed = await mail.house.ask(
        "POST",
        "/auth/password/change",
        {"password": PASSWORD, "new_password": OTHER},
        token=session["access_token"],
    )
    assert changed.status == 204
    answer = await mail.post("/auth/password/reset", token=token, password=PASSWORD)
    assert answer.status == 204
    me = await mail.house.ask("GET", "/auth/me", token=session["access_token"])
    assert (me.status, reason(me)) == (401, "token_revoked")
    assert (await mail.post("/auth/login", email=EMAIL, password=OTHER)).status == 401
    mail.house.clock.move(1)
    assert (await mail.post("/auth/login", **CREDENTIALS)).status == 200


@pytest.mark.parametrize("token", ["x", "x" * 43, "'; --", "\u00e9" * 43])
async def test_what_is_no_link_is_400(mail: MailHouse, token: str) -> None:
    verify = await mail.post("/auth/email/verify", token=token)
    reset = await mail.post("/auth/password/reset", token=token, password=OTHER)
    for answer in (verify, reset):
        assert (answer.status, reason(answer)) == (400, "invalid_token")


async def test_a_link_is_good_for_its_purpose_alone(mail: MailHouse) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    (token,) = await mail.links()
    answer = await mail.post("/auth/password/reset", token=token, password=OTHER)
    assert (answer.status, reason(answer)) == (400, "invalid_token")


async def test_a_disabled_accounts_link_does_nothing(mail: MailHouse) -> None:
    account = await mail.house.register()
    await mail.post("/auth/password/forgot", email=EMAIL)
    (token,) = await mail.links()
    await mail.house.deps.accounts.disable(account.id)
    answer = await mail.post("/auth/password/reset", token=token, password=OTHER)
    assert (answer.status, reason(answer)) == (400, "invalid_token")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/auth/email/verify", {}),
        ("/auth/email/resend", {}),
        ("/auth/email/resend", {"email": "nobody"}),
        ("/auth/password/forgot", {"email": "a@evil@company.com"}),
        ("/auth/password/reset", {"token": "x"}),
    ],
)
async def test_a_wrong_body_is_422_before_anything_is_asked(
    mail: MailHouse, path: str, body: dict[str, object]
) -> None:
    answer = await mail.post(path, **body)
    assert (answer.status, reason(answer)) == (422, "body_invalid")
    assert await mail.outbox.drain() == 0


async def test_a_stranger_who_tries_links_waits(mail: MailHouse) -> None:
    for _ in range(50):
        assert (await mail.post("/auth/email/verify", token="x" * 43)).status == 400
    answer = await mail.post("/auth/email/verify", token="x" * 43)
    assert (answer.status, reason(answer)) == (429, "too_many_attempts")
    assert answer.values("retry-after") == [b"900"]


async def test_a_good_link_is_not_refused_for_what_others_at_its_address_have_tried(
    mail: MailHouse,
) -> None:
    await mail.house.register()
    await mail.post("/auth/password/forgot", email=EMAIL)
    (token,) = await mail.links()
    for _ in range(51):
        refused = await mail.post("/auth/password/reset", token="x" * 43, password=OTHER)
    assert refused.status == 429
    assert (await mail.post("/auth/password/reset", token=token, password=OTHER)).status == 204


@pytest.mark.parametrize("full", ["/auth/password/forgot", "/auth/email/resend"])
async def test_no_form_fills_mailboxes(mail: MailHouse, full: str) -> None:
    for n in range(50):
        assert (await mail.post(full, email=f"u{n}@example.com")).status == 202
    answer = await mail.post(full, email=EMAIL)
    assert (answer.status, reason(answer)) == (429, "too_many_attempts")


async def test_who_has_used_up_one_form_has_not_used_up_another(mail: MailHouse) -> None:
    """A neighbour who asks for letters all day keeps nobody from a reset."""
    await mail.house.register()
    for n in range(51):
        answer = await mail.post("/auth/email/resend", email=f"u{n}@example.com")
    assert answer.status == 429
    assert (await mail.post("/auth/password/forgot", email=EMAIL)).status == 202
    assert (await mail.post("/auth/register", **CREDENTIALS)).status == 202


async def test_sql_away_is_503_and_never_202(mail: MailHouse) -> None:
    mail.house.database.away = True
    for path in ("/auth/register", "/auth/password/forgot", "/auth/email/resend"):
        body = CREDENTIALS if path == "/auth/register" else {"email": EMAIL}
        answer = await mail.post(path, **body)
        assert (answer.status, reason(answer)) == (503, "store_unavailable")
