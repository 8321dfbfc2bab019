"""Addresses confirmed and passwords reset by mailed links, through real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.identity.accounts.registration import Registrations
from gateway.identity.mail.outbox import MailOutbox, OutboxMail
from gateway.identity.mail.recipients import requester_of
from tests.edge.auth_house import CREDENTIALS, EMAIL, PASSWORD, House, open_house, reason, told
from tests.edge.rig import Answer

OTHER = "seven quiet rivers carry boats"
ATTACKERS = "the attacker's 7 words"


@dataclass
class MailHouse:
    house: House
    outbox: MailOutbox

    async def post(self, path: str, **body: object) -> Answer:
        return await self.house.ask("POST", path, body)

    async def as_from(self, address: str, email: str, password: str) -> None:
        """A registration by somebody at that address."""
        password_hash = await self.house.deps.passwords.hash(password)
        assert isinstance(password_hash, str)
        await self.registrations().register(email, password_hash, requester_of(address))

    def registrations(self) -> Registrations:
        return Registrations(self.house.database, self.outbox)

    async def letters(self) -> list[OutboxMail]:
        """Those that wait, newest first."""
        while await self.outbox.drain():
            pass
        return await self.outbox.waiting_mail(100)

    async def links(self) -> list[str]:
        """The tokens of the letters that wait, newest first."""
        texts = [waiting.content.text for waiting in await self.letters()]
        return [token_in(text) for text in texts if "#token=" in text]


def token_in(text: str) -> str:
    return text.split("#token=")[1].split()[0]


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


async def test_an_account_made_while_a_registration_waited_is_not_taken_over(
    mail: MailHouse,
) -> None:
    await mail.post("/auth/register", email=EMAIL, password=ATTACKERS)
    (token,) = await mail.links()
    account = await mail.house.register()
    answer = await mail.post("/auth/email/verify", token=token, password=ATTACKERS)
    assert (answer.status, reason(answer)) == (400, "invalid_token")
    assert await mail.house.deps.accounts.by_email(EMAIL) == account


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
