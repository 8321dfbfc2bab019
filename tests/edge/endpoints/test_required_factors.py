"""`require_factor`: the term, what follows it, and how a factor is enrolled then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.access.factor_rule import FactorRule
from gateway.identity.accounts.account_facts import AccountFacts
from gateway.identity.factors.factor_kinds import FactorNeeded
from gateway.identity.factors.own_factors import OwnFactors
from gateway.identity.factors.totp import TotpFactor
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.providers.identities import ProviderIdentity
from gateway.identity.providers.linked_identities import LinkedAccount, LinkedIdentities, Unlinked
from gateway.identity.providers.provider_sessions import end_sessions_of
from gateway.model import Call, Credential, CredentialKind, Principal, Reason
from tests.edge.auth_house import CREDENTIALS, EMAIL, PASSWORD, House, open_house, reason, told
from tests.edge.endpoints.cookie_calls import SAME, ask, signed_in
from tests.edge.endpoints.test_factors import code_at, enrol, first_step, later, second_step
from tests.edge.rig import Answer
from tests.identity.providers.parts import ISSUER, provider

TERM_S = 1_000
RULE = FactorRule(frozenset({"admin"}), within_s=TERM_S)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, factor_rule=RULE) as opened:
        account = await opened.register()
        await opened.deps.accounts.grant(account.id, "admin")
        yield opened


async def over(house: House) -> dict[str, Any]:
    """A sign-in within the term, and then the answer to one behind it."""
    await house.sign_in()
    await later(house, TERM_S)
    asked = await first_step(house)
    assert (asked["enrol"], asked["factors"]) == (True, [])
    return asked


async def begin(house: House, mfa_token: str) -> Answer:
    return await house.ask("POST", "/auth/factors/totp", {"mfa_token": mfa_token})


async def confirm(house: House, mfa_token: str, code: str) -> Answer:
    body = {"mfa_token": mfa_token, "code": code}
    return await house.ask("POST", "/auth/factors/totp/confirm", body)


async def test_within_the_term_people_sign_in_and_are_told_until_when(house: House) -> None:
    token = (await house.sign_in())["access_token"]
    told_of = told(await house.ask("GET", "/auth/factors", token=token))
    assert told_of["required"] is True
    assert told_of["enrol_by"] == int(house.clock.now()) + TERM_S
    await enrol(house, token)


async def test_an_account_without_the_role_needs_none(house: House) -> None:
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    await house.deps.accounts.revoke(account.id, "admin")
    token = (await house.sign_in())["access_token"]
    await later(house, TERM_S)
    assert told(await house.ask("POST", "/auth/login", CREDENTIALS))["access_token"]
    assert (await house.ask("GET", "/auth/factors", token=token)).status == 401  # expired


async def test_behind_the_term_a_sign_in_enrols_a_factor_and_is_complete(house: House) -> None:
    asked = await over(house)
    begun = await begin(house, asked["mfa_token"])
    assert begun.status == 200, begun.body
    secret = str(told(begun)["secret"])
    done = await confirm(house, asked["mfa_token"], code_at(house, secret))
    assert done.status == 200, done.body
    body = told(done)
    assert len(body["recovery_codes"]) == 10
    verified = house.deps.verifier.verify(body["access_token"])
    assert getattr(verified, "amr", None) == ("pwd", "otp", "mfa")
    refreshed = await house.ask("POST", "/auth/refresh", {"refresh_token": body["refresh_token"]})
    assert refreshed.status == 200
    house.clock.move(60)
    again = await first_step(house)
    assert (await second_step(house, again["mfa_token"], code_at(house, secret))).status == 200


async def test_a_token_that_enrols_opens_no_session_by_itself(house: House) -> None:
    asked = await over(house)
    answer = await second_step(house, asked["mfa_token"], "123456")
    assert (answer.status, reason(answer)) == (400, "invalid_token")


async def test_of_two_who_have_the_password_the_first_enrols(house: House) -> None:
    one, other = await over(house), await first_step(house)
    first = str(told(await begin(house, one["mfa_token"]))["secret"])
    done = await confirm(house, one["mfa_token"], code_at(house, first))
    assert done.status == 200
    assert (await begin(house, other["mfa_token"])).status == 401
    answer = await confirm(house, other["mfa_token"], code_at(house, first))
    assert answer.status == 401
    assert (await begin(house, one["mfa_token"])).status == 401


async def test_a_token_of_before_a_new_password_enrols_nothing(house: House) -> None:
    asked = await over(house)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    await house.deps.accounts.end_all(account.id, "operator")
    assert (await begin(house, asked["mfa_token"])).status == 401


@dataclass(frozen=True)
class ByProvider:
    """A sign-in by a provider that waits for a factor to be enrolled."""

    mfa_token: str
    account_id: str


async def by_provider(house: House) -> ByProvider:
    """Of somebody whose term is over, and who signed in there an hour ago."""
    await over(house)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    identity = ProviderIdentity(
        provider("trust_email: true"),
        "alice",
        EMAIL,
        email_verified=True,
        session_id="there",
        auth_time=int(house.clock.now()) - 3_600,
    )
    found = await links_of(house).sign_in(identity)
    assert isinstance(found, LinkedAccount)
    origin = house.deps.providers.sessions.origin(identity, found.identity_id)
    needed = FactorNeeded(account, ("fed",), ())
    issued = house.deps.mfa_tokens.issue(
        needed, "gate.example", "bearer", known_device=True, origin=origin
    )
    return ByProvider(issued.text, account.id)


def links_of(house: House) -> LinkedIdentities:
    notifications = SecurityNotifications(house.database, house.deps.mailer)
    return LinkedIdentities(house.database, notifications)


async def test_a_sign_in_by_a_provider_that_enrols_a_factor_stays_tied_to_it(house: House) -> None:
    pending = await by_provider(house)
    secret = str(told(await begin(house, pending.mfa_token))["secret"])
    done = await confirm(house, pending.mfa_token, code_at(house, secret))
    assert done.status == 200, done.body
    token = told(done)["access_token"]
    verified = house.deps.verifier.verify(token)
    assert getattr(verified, "auth_time", None) == int(house.clock.now()) - 3_600
    async with house.database.transaction() as tx:
        ended = await end_sessions_of(tx, ISSUER, "logout", subject="alice")
    assert [change.target for change in ended] == [getattr(verified, "session_id", None)]


async def test_a_link_that_has_gone_enrols_no_factor(house: House) -> None:
    """Else whoever held it would have the only factor of the account."""
    pending = await by_provider(house)
    secret = str(told(await begin(house, pending.mfa_token))["secret"])
    unlinked = await links_of(house).unlink(
        pending.account_id, "idp", session_id=None, may_be_last=True
    )
    assert unlinked == Unlinked("idp", [])  # it had begun no session yet
    done = await confirm(house, pending.mfa_token, code_at(house, secret))
    assert done.status == 401, done.body
    assert (await begin(house, pending.mfa_token)).status == 401
    assert told(await house.ask("POST", "/auth/login", CREDENTIALS))["factors"] == []


async def test_behind_the_term_a_session_without_a_factor_is_not_refreshed(house: House) -> None:
    tokens = await house.sign_in()
    await later(house, TERM_S)
    body = {"refresh_token": tokens["refresh_token"]}
    for _ in range(2):  # it is refused, and not used up
        answer = await house.ask("POST", "/auth/refresh", body)
        assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")


async def test_behind_the_term_a_cookie_without_a_factor_ends_with_its_minutes(
    house: House,
) -> None:
    signed_in = await house.ask("POST", "/auth/login", {**CREDENTIALS, "transport": "cookie"})
    (cookie,) = [
        line.decode().partition(";")[0]
        for line in signed_in.values("Set-Cookie")
        if line.startswith(b"__Host-session")
    ]
    headers = [f"Cookie: {cookie}", SAME]
    assert (await house.ask("GET", "/auth/me", headers=headers)).status == 200
    await later(house, TERM_S)
    answer = await house.ask("GET", "/auth/me", headers=headers)
    assert (answer.status, reason(answer)) == (401, "session_unknown")


async def test_a_reset_ends_every_session_and_leaves_the_term_as_it_was(house: House) -> None:
    _, confirmed = await enrol(house)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    notifications = SecurityNotifications(house.database, house.deps.mailer)
    totp = TotpFactor(house.database, house.deps.sealer)
    own = OwnFactors(house.database, totp, notifications)
    changes = await own.reset(account.id)
    assert changes
    await house.workers.publish(changes)
    me = await house.ask("GET", "/auth/me", token=confirmed["access_token"])
    assert me.status == 401
    async with house.database.read_transaction() as tx:
        mails = await tx.all("SELECT template FROM outbox WHERE template = 'factors_reset'")
        codes = await tx.all("SELECT 1 FROM recovery_codes")
    assert (len(mails), codes) == (1, [])
    assert (await house.ask("POST", "/auth/login", CREDENTIALS)).status == 200
    await later(house, TERM_S)
    assert (await first_step(house))["enrol"] is True


async def test_a_reset_of_the_password_by_mail_removes_no_factor(house: House) -> None:
    """A mailbox is not the account: whoever has taken it over is asked for the factor still."""
    secret, confirmed = await enrol(house)
    changed = await house.ask(
        "POST",
        "/auth/password/change",
        {"password": PASSWORD, "new_password": PASSWORD + " anew"},
        token=confirmed["access_token"],
    )
    assert changed.status == 204
    asked = await first_step(house, password=PASSWORD + " anew")
    assert asked["factors"] == ["totp", "recovery_code"]
    assert (await second_step(house, asked["mfa_token"], code_at(house, secret))).status == 200


# A token outlives the end of a term of ten minutes, and whoever has it asks for more.
SHORT = FactorRule(everyone=True, within_s=600)


@pytest.fixture
async def short(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, factor_rule=SHORT) as opened:
        account = await opened.register()
        await AccountFacts(opened.database).put_tenant(account.id, "acme", "member")
        yield opened


@dataclass(frozen=True)
class Late:
    """Somebody without a factor, a second behind the term, whose token and cookie still live."""

    token: str
    refresh_token: str
    cookie: str
    session_id: str


async def late_in(house: House) -> Late:
    tokens = await house.sign_in()
    cookie, answer = await signed_in(house)
    assert answer.status == 200
    async with house.database.read_transaction() as tx:
        row = await tx.one("SELECT id FROM families WHERE transport = 'cookie'")
    assert row is not None
    await later(house, SHORT.within_s + 1)
    late = Late(tokens["access_token"], tokens["refresh_token"], cookie, str(row["id"]))
    assert (await house.ask("GET", "/auth/me", token=late.token)).status == 200
    assert (await ask(house, "GET", "/auth/me", cookie)).status == 200
    return late


NEW = {
    "refresh": ("/auth/refresh", {}),
    "step-up": ("/auth/step-up", {"password": PASSWORD}),
    "tenant": ("/auth/tenant", {"tenant": "acme"}),
    "key": ("/auth/keys", {"name": "laptop", "expires_in": 366 * 86_400}),
}
"""What gives whoever has a session something new."""


@pytest.mark.parametrize("what", NEW)
@pytest.mark.parametrize("by", ["token", "cookie"])
async def test_behind_the_term_a_session_without_a_factor_is_given_nothing_new(
    short: House, by: str, what: str
) -> None:
    """With the password it lasted its seven days, and a key of a year came of it."""
    late, (path, body) = await late_in(short), NEW[what]
    if by == "cookie":
        answer = await ask(short, "POST", path, late.cookie, body=body or None)
    elif what == "refresh":
        answer = await short.ask("POST", path, {"refresh_token": late.refresh_token})
    else:
        answer = await short.ask("POST", path, body, token=late.token)
    assert answer.status == 401, answer.body
    assert b"access_token" not in answer.body
    assert b"api_key" not in answer.body
    refreshed_by_cookie = by == "cookie" and what in ("refresh", "tenant")
    wanted = "session_unknown" if refreshed_by_cookie else "insufficient_user_authentication"
    assert reason(answer) == wanted
    async with short.database.read_transaction() as tx:
        assert await tx.all("SELECT 1 FROM personal_keys") == []
        assert await tx.all("SELECT 1 FROM families WHERE tenant IS NOT NULL") == []
    await later(short, 900 - SHORT.within_s)
    assert (await short.ask("GET", "/auth/me", token=late.token)).status == 401
    assert (await ask(short, "GET", "/auth/me", late.cookie)).status == 401


async def test_behind_the_term_a_session_without_a_factor_is_handed_over_to_no_host(
    short: House,
) -> None:
    """Neither to another host nor to the console."""
    late = await late_in(short)
    assert await short.deps.cookies.hand_over(late.session_id, "app1.example", None) is None


@pytest.mark.parametrize("by", ["token", "cookie"])
async def test_a_step_up_behind_the_term_enrols_a_factor_as_a_sign_in_does(
    short: House, by: str
) -> None:
    late = await late_in(short)
    body = {"password": PASSWORD}
    if by == "token":
        asked = told(await short.ask("POST", "/auth/step-up", body, token=late.token))
    else:
        asked = told(await ask(short, "POST", "/auth/step-up", late.cookie, body=body))
    assert (asked["factors"], asked["enrol"]) == ([], True)
    secret = str(told(await begin(short, asked["mfa_token"]))["secret"])
    done = await confirm(short, asked["mfa_token"], code_at(short, secret))
    assert done.status == 200, done.body
    assert len(told(done)["recovery_codes"]) == 10
    gave_cookie = any(v.startswith(b"__Host-session=") for v in done.values("set-cookie"))
    assert (gave_cookie, "access_token" in told(done)) == (by == "cookie", by == "token")


async def test_behind_the_term_whoever_has_just_signed_in_enrols_in_that_session(
    tmp_path: Path,
) -> None:
    rule = FactorRule(everyone=True, within_s=200)
    async with open_house(tmp_path, factor_rule=rule) as house:
        await house.register()
        token = str((await house.sign_in())["access_token"])
        house.clock.move(201)
        _, enrolled = await enrol(house, token)
        body = {"name": "laptop"}
        made = await house.ask("POST", "/auth/keys", body, token=enrolled["access_token"])
        assert made.status == 201, made.body


async def test_behind_the_term_who_has_removed_their_last_factor_makes_no_key(
    short: House,
) -> None:
    """Their session gave a factor, and goes on; the key would call nothing."""
    asked = await late_step_up(short, str((await short.sign_in())["access_token"]))
    secret = str(told(await begin(short, asked["mfa_token"]))["secret"])
    enrolled = told(await confirm(short, asked["mfa_token"], code_at(short, secret)))
    token, body = enrolled["access_token"], {"name": "laptop"}
    made = await short.ask("POST", "/auth/keys", body, token=token)
    assert made.status == 201, made.body
    assert (await short.ask("DELETE", "/auth/factors/totp", token=token)).status == 204
    none = await short.ask("POST", "/auth/keys", body, token=token)
    assert (none.status, reason(none)) == (401, "insufficient_user_authentication")
    refresh = {"refresh_token": enrolled["refresh_token"]}
    assert (await short.ask("POST", "/auth/refresh", refresh)).status == 200


async def test_behind_the_term_keys_call_again_once_their_account_has_a_factor(
    short: House,
) -> None:
    tokens = await short.sign_in()
    made = await short.ask("POST", "/auth/keys", {"name": "laptop"}, token=tokens["access_token"])
    key = Credential(CredentialKind.API_KEY, str(told(made)["api_key"]))
    assert isinstance(await called_with(short, key), Principal)
    asked = await late_step_up(short, tokens["access_token"])
    assert await called_with(short, key) is Reason.INSUFFICIENT_USER_AUTHENTICATION
    secret = str(told(await begin(short, asked["mfa_token"]))["secret"])
    assert (await confirm(short, asked["mfa_token"], code_at(short, secret))).status == 200
    assert isinstance(await called_with(short, key), Principal)


async def late_step_up(house: House, token: str) -> dict[str, Any]:
    await later(house, SHORT.within_s + 1)
    return told(await house.ask("POST", "/auth/step-up", {"password": PASSWORD}, token=token))


async def called_with(house: House, key: Credential) -> Principal | Reason:
    call = Call(
        "GET",
        "gate.example",
        "/",
        ("",),
        "",
        headers=(),
        client_ip="192.0.2.1",
        scheme="https",
        credential=key,
    )
    return await house.deps.authenticator.authenticate(call, frozenset((key.kind,)))
