"""Who may register, and what a refusal tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.edge.endpoints.session_opening import Verification
from gateway.email_address import normalize_domain, normalize_email
from gateway.identity.accounts.invitations import Invitations, InvitationTerms, NewInvitation
from gateway.identity.accounts.registration_rules import RegistrationMode, RegistrationRules
from tests.edge.auth_house import PASSWORD, House, open_house, reason, told

CLOSED = RegistrationRules("closed")
INVITED = RegistrationRules("invited")
OF_EXAMPLE = RegistrationRules("open", frozenset({"example.com", "xn--bcher-kva.example"}))


def who(email: str) -> dict[str, str]:
    return {"email": email, "password": PASSWORD}


@pytest.mark.parametrize("registration_rules", [CLOSED, INVITED], ids=["closed", "invited"])
@pytest.mark.parametrize("verification", ["off", "required"])
async def test_a_stranger_is_told_the_same_of_every_address(
    tmp_path: Path, registration_rules: RegistrationRules, verification: Verification
) -> None:
    async with open_house(
        tmp_path, verification=verification, registration_rules=registration_rules
    ) as house:
        await house.deps.accounts.register("known@example.com", None)
        answers = [
            await house.ask("POST", "/auth/register", who(email))
            for email in ("known@example.com", "unknown@example.com")
        ]
        bodies = [{k: v for k, v in told(a).items() if k != "request_id"} for a in answers]
        assert [a.status for a in answers] == [403, 403]
        assert bodies[0] == bodies[1]
        assert bodies[0]["reason"] == "registration_closed"
        assert await house.deps.accounts.by_email("unknown@example.com") is None


async def test_where_registration_is_closed_nothing_is_read(tmp_path: Path) -> None:
    async with open_house(tmp_path, registration_rules=CLOSED) as house:
        answer = await house.ask("POST", "/auth/register", {"nothing": "of the kind"})
        assert (answer.status, reason(answer)) == (403, "registration_closed")


async def test_a_page_of_another_origin_is_told_that_first(tmp_path: Path) -> None:
    async with open_house(tmp_path, registration_rules=CLOSED) as house:
        answer = await house.ask(
            "POST", "/auth/register", who("a@example.com"), headers=["Sec-Fetch-Site: cross-site"]
        )
        assert reason(answer) == "cross_origin"


@pytest.mark.parametrize(
    "email",
    ["a@example.com", "A@EXAMPLE.COM", "a@Example.Com ", "a@bücher.example", "a@BÜCHER.example",
     "a@xn--bcher-kva.example", "a@ｅｘａｍｐｌｅ.com"],
)  # fmt: skip
async def test_an_address_of_a_listed_domain_is_taken_however_it_is_written(
    tmp_path: Path, email: str
) -> None:
    async with open_house(tmp_path, registration_rules=OF_EXAMPLE) as house:
        answer = await house.ask("POST", "/auth/register", who(email))
        assert answer.status == 201, answer.body


@pytest.mark.parametrize(
    "email",
    ["a@example.com.evil.net", "a@mail.example.com", "a@notexample.com", "a@example.co",
     "a@xn--example-.com", "a@bucher.example", "\"a@example.com\"@evil.net", "a%example.com@evil.net",
     "a@evil.net,b@example.com", "a@exаmple.com", "a@example.com@evil.net", "a@evil.net@example.com"],
)  # fmt: skip
async def test_no_trick_of_writing_makes_another_domain_a_listed_one(
    tmp_path: Path, email: str
) -> None:
    async with open_house(tmp_path, registration_rules=OF_EXAMPLE) as house:
        answer = await house.ask("POST", "/auth/register", who(email))
        assert (answer.status, reason(answer)) in [
            (403, "registration_closed"),
            (422, "body_invalid"),
        ]


async def test_a_refused_domain_tells_nothing_of_accounts(tmp_path: Path) -> None:
    async with open_house(
        tmp_path, verification="required", registration_rules=OF_EXAMPLE
    ) as house:
        await house.deps.accounts.register("known@other.example", None)
        one = await house.ask("POST", "/auth/register", who("known@other.example"))
        two = await house.ask("POST", "/auth/register", who("unknown@other.example"))
        assert one.status == two.status == 403
        assert told(one)["detail"] == told(two)["detail"]


async def test_an_account_moves_to_no_other_domain(tmp_path: Path) -> None:
    async with open_house(tmp_path, registration_rules=OF_EXAMPLE) as house:
        await house.register()
        token = (await house.sign_in())["access_token"]

        async def moved_to(email: str) -> int:
            body = {"email": email, "password": PASSWORD}
            answer = await house.ask("POST", "/auth/email/change", body, token=token)
            return answer.status

        assert await moved_to("alice@other.example") == 403
        assert await moved_to("alice@bücher.example") == 202


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("Example.COM", "example.com"),
        (" bücher.example ", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("*.example.com", None),
        ("@example.com", None),
        ("a@example.com", None),
        ("example.com.", None),
        ("exa mple.com", None),
        ("[127.0.0.1]", None),
        ("", None),
        ("a" * 300 + ".com", None),
    ],
)
def test_a_domain_is_what_addresses_of_accounts_have(text: str, domain: str | None) -> None:
    assert normalize_domain(text) == domain
    if domain is not None:
        key = normalize_email(f"a@{text.strip()}")
        assert key is not None
        assert RegistrationRules("open", frozenset({domain})).takes_domain(key)


TERMS = InvitationTerms(("user",), 3600, by_mail=False, verified=False, invited_by="root")


async def invitation(house: House, email: str = "ann@example.com") -> str:
    made = await Invitations(house.database).invite(email, TERMS)
    assert isinstance(made, NewInvitation)
    return made.token


@pytest.mark.parametrize("mode", ["open", "invited"])
async def test_an_invitation_makes_one_account_with_its_roles(
    tmp_path: Path, mode: RegistrationMode
) -> None:
    async with open_house(tmp_path, registration_rules=RegistrationRules(mode)) as house:
        token = await invitation(house)
        body = who("Ann@Example.com") | {"invitation": token}
        answers = [await house.ask("POST", "/auth/register", body) for _ in range(2)]
        account = told(answers[0])
        assert (answers[0].status, account["roles"], account["email_verified"]) == (
            201,
            ["user"],
            False,
        )
        assert (answers[1].status, reason(answers[1])) == (403, "registration_closed")
        assert (await house.sign_in("ann@example.com"))["user"]["roles"] == ["user"]


async def test_a_bad_invitation_is_refused_in_the_same_words_whatever_is_wrong(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path, registration_rules=INVITED) as house:
        token = await invitation(house)
        bodies = [
            who("bob@example.com") | {"invitation": token},
            who("ann@example.com") | {"invitation": "A" * 43},
            who("ann@example.com") | {"invitation": "short"},
            who("ann@example.com") | {"invitation": token + "x"},
            who("ann@example.com") | {"invitation": "' OR 1=1 --"},
        ]
        answers = [await house.ask("POST", "/auth/register", body) for body in bodies]
        assert {(a.status, told(a)["detail"]) for a in answers} == {
            (403, "The invitation is unknown, was used, has ended, or is for another address.")
        }
        good = await house.ask(
            "POST", "/auth/register", who("ann@example.com") | {"invitation": token}
        )
        assert good.status == 201


async def test_no_invitation_opens_what_is_closed_or_another_domain(tmp_path: Path) -> None:
    for number, registration_rules in enumerate(
        [CLOSED, RegistrationRules("invited", frozenset({"x.example"}))]
    ):
        (folder := tmp_path / str(number)).mkdir()
        async with open_house(folder, registration_rules=registration_rules) as house:
            body = who("ann@example.com") | {"invitation": await invitation(house)}
            answer = await house.ask("POST", "/auth/register", body)
            assert (answer.status, reason(answer)) == (403, "registration_closed")
            assert await house.deps.accounts.by_email("ann@example.com") is None


async def test_an_unconfirmed_account_signs_in_only_where_addresses_need_no_proof(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path, verification="required", registration_rules=INVITED) as house:
        body = who("ann@example.com") | {"invitation": await invitation(house)}
        assert (await house.ask("POST", "/auth/register", body)).status == 201
        answer = await house.ask("POST", "/auth/login", who("ann@example.com"))
        assert (answer.status, reason(answer)) == (403, "email_unverified")


async def test_bad_invitations_are_counted_and_a_good_one_is_refused_for_nobodys(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path, registration_rules=INVITED) as house:
        token = await invitation(house)
        for number in range(60):
            wrong = who("ann@example.com") | {"invitation": f"{number:043d}"}
            last = await house.ask("POST", "/auth/register", wrong)
        assert (last.status, reason(last)) == (429, "too_many_attempts")
        weak = {"email": "ann@example.com", "password": "password", "invitation": token}
        for number in range(25):
            last = await house.ask("POST", "/auth/register", weak)
            assert last.status == (422 if number < 20 else 429)


async def test_an_address_that_has_an_account_is_told_to_who_is_invited(tmp_path: Path) -> None:
    async with open_house(tmp_path, verification="required", registration_rules=INVITED) as house:
        token = await invitation(house)
        await house.deps.accounts.register("ann@example.com", None)
        answer = await house.ask(
            "POST", "/auth/register", who("ann@example.com") | {"invitation": token}
        )
        assert (answer.status, reason(answer)) == (409, "email_taken")


@pytest.mark.parametrize("email", ["\uff41nna@example.com", "gro\xdf@example.com"])
async def test_without_mail_no_spelling_takes_the_address_of_another_mailbox(
    tmp_path: Path, email: str
) -> None:
    async with open_house(tmp_path, verification="off") as house:
        answer = await house.ask("POST", "/auth/register", who(email))
        assert answer.status == 422
        assert await house.deps.accounts.by_email(email) is None
        owner = normalize_email(email)
        assert owner is not None
        assert (await house.ask("POST", "/auth/register", who(owner))).status == 201
