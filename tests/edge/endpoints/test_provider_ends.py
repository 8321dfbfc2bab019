"""What a provider ends while somebody is on their way in, through real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from gateway.access.issuers import Issuer
from gateway.access.providers import Provider as SignInProvider
from gateway.edge.endpoints.session_opening import SIGN_IN_OVER
from gateway.identity.factors.factor_kinds import FactorKind, FactorNeeded
from gateway.identity.factors.own_factors import OwnFactors
from gateway.identity.factors.own_passkeys import OwnPasskeys
from gateway.identity.providers.identities import ProviderIdentity
from gateway.identity.providers.linked_identities import LinkedAccount, LinkedIdentities
from gateway.identity.providers.metadata import ProviderMetadata
from gateway.model import Reason
from gateway.stores.moments import RedisMoments
from gateway.stores.nonces import RedisNonceStore
from gateway.stores.protocols import StoreUnavailable
from gateway.stores.redis import open_redis
from tests.authenticator import Authenticator
from tests.edge.auth_house import EMAIL, URL, House, open_house, reason, request, told
from tests.edge.endpoints.passkey_calls import PASSKEYS
from tests.edge.endpoints.test_factors import code_at, enrol, kinds_of, second_step
from tests.edge.endpoints.test_provider_guesses import come_back, come_back_from, start
from tests.edge.endpoints.test_provider_links import GATE, signed_in_at
from tests.edge.endpoints.test_required_factors import links_of
from tests.edge.rig import Answer
from tests.identity.issuers.event_provider import ABSENT, PublishedKey
from tests.identity.providers.parts import CLIENT, ISSUER, provider
from tests.servers import ValkeyServer
from tests.turned_clock import TurnedClock

THERE = "session-1"
IDP = provider("trust_email: true\naccounts: create\nbackchannel_logout: true")
NEWCOMER = "new@example.com"


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with open_house(tmp_path, providers={"idp": IDP}) as opened:
        await opened.register()

        async def metadata(one: SignInProvider) -> ProviderMetadata:
            del one
            return ProviderMetadata(f"{ISSUER}/auth", f"{ISSUER}/token", f"{ISSUER}/keys")

        async def find(issuer: Issuer, kid: str, jwks_uri: str) -> PublishedKey | Reason:
            del jwks_uri
            return await opened.provider.find(issuer, kid)

        monkeypatch.setattr(opened.deps.providers.client, "metadata", metadata)
        monkeypatch.setattr(opened.deps.providers.keys, "find", find)
        yield opened


async def ended_there(house: House, sid: str = THERE) -> Answer:
    """The provider tells of the end of the session there; it names the session alone."""
    return await told_of_end(house, sub=ABSENT, sid=sid)


async def all_ended_there(house: House, sub: str = "alice") -> Answer:
    """The same of all that somebody had there, whom it names alone: what OpenID Connect
    Back-Channel Logout has for who does not ask for `sid`."""
    return await told_of_end(house, sub=sub, sid=ABSENT)


async def told_of_end(house: House, **names: Any) -> Answer:
    token = house.provider.logout_token(house.clock.now(), aud=CLIENT, **names)
    content = urlencode({"logout_token": token}).encode()
    path = "/auth/providers/idp/backchannel-logout"
    form = "application/x-www-form-urlencoded"
    return await house.raw(request("POST", path, content, content_type=form))


async def came_back(house: House) -> tuple[LinkedAccount, ProviderIdentity]:
    identity = ProviderIdentity(IDP, "alice", EMAIL, email_verified=True, session_id=THERE)
    found = await links_of(house).sign_in(identity)
    assert isinstance(found, LinkedAccount)
    return found, identity


async def at_the_second_factor(house: House, begun_at: int | None = None) -> str:
    """The `mfa_token` of who came back from the provider."""
    found, identity = await came_back(house)
    identity = replace(identity, begun_at=begun_at)
    origin = house.deps.providers.sessions.origin(identity, found.identity_id)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    needed = FactorNeeded(account, ("fed",), (FactorKind.TOTP,))
    return house.deps.mfa_tokens.issue(
        needed, "gate.example", "cookie", known_device=True, origin=origin
    ).text


async def to_enrol(house: House) -> str:
    """The `mfa_token` of who came back from the provider, and has to enrol a factor first."""
    found, identity = await came_back(house)
    origin = house.deps.providers.sessions.origin(identity, found.identity_id)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    needed = FactorNeeded(account, ("fed",), ())
    return house.deps.mfa_tokens.issue(
        needed, "gate.example", "cookie", known_device=True, origin=origin
    ).text


async def live_sessions(house: House) -> list[str]:
    async with house.database.transaction() as tx:
        rows = await tx.all("SELECT id FROM families WHERE ended_at IS NULL AND transport='cookie'")
    return [str(row["id"]) for row in rows]


async def test_who_is_at_the_second_factor_in_a_session_that_has_ended_there_gets_none(
    house: House,
) -> None:
    """It has begun no session here yet by which anybody could know whose it is."""
    secret, _ = await enrol(house)
    waiting = await at_the_second_factor(house)
    assert (await ended_there(house)).status == 200
    done = await second_step(house, waiting, code_at(house, secret))
    assert (done.status, reason(done)) == (401, "invalid_credentials")
    assert not done.values("set-cookie")
    assert await live_sessions(house) == []
    assert kinds_of(house)[-1] == "sign_in_failed"


async def test_the_end_of_another_session_there_stops_nobody(house: House) -> None:
    secret, _ = await enrol(house)
    waiting = await at_the_second_factor(house)
    assert (await ended_there(house, sid="another")).status == 200
    done = await second_step(house, waiting, code_at(house, secret))
    assert done.status == 200, done.body
    assert len(await live_sessions(house)) == 1


async def test_where_nobody_can_say_what_has_ended_there_nobody_gets_in(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, _ = await enrol(house)
    waiting = await at_the_second_factor(house)

    async def is_away(_origin: object) -> bool:
        raise StoreUnavailable("redis", "away")

    monkeypatch.setattr(house.deps.providers.ended_sessions, "has_ended", is_away)
    done = await second_step(house, waiting, code_at(house, secret))
    assert (done.status, reason(done)) == (503, "store_unavailable")
    assert await live_sessions(house) == []


async def test_who_is_to_enrol_a_factor_in_a_session_that_has_ended_there_enrols_none(
    house: House,
) -> None:
    """Else whoever was sent away there would have the only factor of the account."""
    waiting = await to_enrol(house)
    begun = await house.ask("POST", "/auth/factors/totp", {"mfa_token": waiting})
    secret = str(told(begun)["secret"])
    assert (await ended_there(house)).status == 200
    body = {"mfa_token": waiting, "code": code_at(house, secret)}
    for path in ("/auth/factors/totp/confirm", "/auth/factors/totp"):
        answer = await house.ask(
            "POST", path, body if "confirm" in path else {"mfa_token": waiting}
        )
        assert (answer.status, reason(answer)) == (400, "invalid_token")
    token = str((await house.sign_in())["access_token"])
    assert told(await house.ask("GET", "/auth/factors", token=token))["totp"] is None


# --- who is named alone, and not the session there


def comes_back_as(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    email: str = EMAIL,
    meanwhile: Callable[[], Awaitable[object]] | None = None,
    *,
    there: str | None = None,
    roles: tuple[str, ...] = (),
) -> None:
    """Whoever brings a code is alice, in the session `there` if the ID token says one; `meanwhile`
    happens while the provider answers."""

    async def identity(*_: object) -> ProviderIdentity:
        if meanwhile is not None:
            await meanwhile()
        return ProviderIdentity(
            IDP, "alice", email, email_verified=True, roles=roles, session_id=there
        )

    monkeypatch.setattr(house.deps.providers.client, "identity", identity)


async def end_there(house: House, sub: str) -> None:
    assert (await all_ended_there(house, sub)).status == 200


def session_cookies(answer: Answer) -> list[bytes]:
    return [line for line in answer.values("set-cookie") if line.startswith(b"__Host-session=")]


@pytest.mark.parametrize("was_here", [True, False])
@pytest.mark.parametrize("email", [EMAIL, NEWCOMER])
async def test_whom_the_provider_ends_while_it_answers_gets_no_session(
    house: House, monkeypatch: pytest.MonkeyPatch, email: str, was_here: bool
) -> None:
    """The first time nothing here names them; later their link does, and has another id since."""
    if was_here:
        comes_back_as(house, monkeypatch, email)
        assert (await come_back(house)).status == 303
    comes_back_as(house, monkeypatch, email, partial(end_there, house, "alice"))
    answer = await come_back(house)
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")
    assert session_cookies(answer) == []
    assert await live_sessions(house) == []
    assert kinds_of(house)[-1] == "sign_in_failed"
    if not was_here:
        known = await house.deps.accounts.by_email(NEWCOMER)
        assert known is None  # nor has anything been made of what they came with
    # Who signs in there again is another matter, at once.
    comes_back_as(house, monkeypatch, email)
    again = await come_back(house)
    assert again.status == 303
    assert session_cookies(again)
    assert len(await live_sessions(house)) == 1


async def test_what_the_provider_gave_before_the_end_begins_no_session_though_it_honours_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells of the end first, and forgets the session and its codes once all have answered."""
    comes_back_as(house, monkeypatch)
    before = await start(house)
    await end_there(house, "alice")
    answer = await come_back_from(house, before)
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")
    assert await live_sessions(house) == []
    assert session_cookies(await come_back_from(house, await start(house)))


@pytest.mark.parametrize("is_asked_again", [False, True])
async def test_where_redis_has_forgotten_what_ended_no_session_begins_by_what_began_before(
    house: House, monkeypatch: pytest.MonkeyPatch, is_asked_again: bool
) -> None:
    comes_back_as(house, monkeypatch)
    before = await start(house)
    await end_there(house, "alice")
    vars(house.deps.providers.ended_sessions)["_moments"].forget()
    if is_asked_again:
        await start(house)
    answer = await come_back_from(house, before)
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")
    assert await live_sessions(house) == []
    assert session_cookies(await come_back_from(house, await start(house)))


@pytest.mark.parametrize("is_session_named", [False, True])
@pytest.mark.parametrize(
    ("before", "after"), [(-2, -2), (-3600, -3600), (0, -3600), (0, 3600), (3600, 0)]
)
async def test_what_ended_stays_so_where_the_clock_of_redis_steps_meanwhile(
    house: House,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own_valkey: Callable[..., ValkeyServer],
    before: int,
    after: int,
    is_session_named: bool,
) -> None:
    """Whoever holds a code of the provider waits for it: the clock steps before the end is told,
    or when it has been."""
    clock = TurnedClock(tmp_path)
    redis = open_redis(clock.valkey(own_valkey, monkeypatch).url)
    try:
        ended = vars(house.deps.providers.ended_sessions)
        ended["_marks"], ended["_moments"] = RedisNonceStore(redis), RedisMoments(redis)
        comes_back_as(house, monkeypatch, there=THERE if is_session_named else None)
        held = await start(house)
        await clock.turn_of(redis, before)
        told_of = ended_there(house) if is_session_named else all_ended_there(house)
        assert (await told_of).status == 200
        await clock.turn_of(redis, after)
        answer = await come_back_from(house, held)
        assert (answer.status, reason(answer)) == (401, "invalid_credentials")
        assert await live_sessions(house) == []
        comes_back_as(house, monkeypatch, there="a later one" if is_session_named else None)
        assert session_cookies(await come_back_from(house, await start(house)))
    finally:
        await redis.close()


@pytest.mark.parametrize("is_session_named", [False, True])
async def test_an_end_that_no_replica_has_ends_what_is_there_and_is_to_be_told_again(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    own_valkey: Callable[..., ValkeyServer],
    is_session_named: bool,
) -> None:
    """Whoever tells of an end once must not leave its sessions alive for a week."""
    redis = open_redis(own_valkey().url)
    try:
        ended = vars(house.deps.providers.ended_sessions)
        ended["_marks"], ended["_moments"] = RedisNonceStore(redis), RedisMoments(redis)
        comes_back_as(house, monkeypatch, there=THERE if is_session_named else None)
        assert session_cookies(await come_back(house))
        redis.replicas = 1
        for _ in range(2):
            told_of = ended_there(house) if is_session_named else all_ended_there(house)
            answer = await told_of
            assert (answer.status, reason(answer)) == (503, "store_unavailable")
            assert await live_sessions(house) == []
        redis.replicas = 0
        told_of = ended_there(house) if is_session_named else all_ended_there(house)
        assert (await told_of).status == 200
    finally:
        await redis.close()


async def test_whom_the_provider_ends_once_their_account_is_found_gets_no_session(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two looks: the account is made, and its session has not begun."""
    comes_back_as(house, monkeypatch, NEWCOMER)
    sign_in = LinkedIdentities.sign_in

    async def slow(self: LinkedIdentities, identity: ProviderIdentity) -> object:
        found = await sign_in(self, identity)
        monkeypatch.setattr(LinkedIdentities, "sign_in", sign_in)
        # As by an end that finds no session: theirs begins after it.
        await house.deps.providers.ended_sessions.note_person(ISSUER, "alice")
        return found

    monkeypatch.setattr(LinkedIdentities, "sign_in", slow)
    answer = await come_back(house)
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")
    assert await live_sessions(house) == []
    assert session_cookies(await come_back(house))


async def test_the_end_of_somebody_else_stops_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    comes_back_as(house, monkeypatch, meanwhile=partial(end_there, house, "bob"))
    assert (await come_back(house)).status == 303
    assert len(await live_sessions(house)) == 1


async def test_whom_the_provider_ends_while_it_answers_is_linked_with_no_account(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    comes_back_as(house, monkeypatch, meanwhile=partial(end_there, house, "alice"))
    answer, links = await linked_by_hand(house)
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")
    assert links == []


async def linked_by_hand(house: House) -> tuple[Answer, list[Any]]:
    """What the browser is told that comes back to be linked, and the links of the account then."""
    fields = await signed_in_at(house, GATE)
    listed = await house.raw(request("GET", "/auth/links", b"", headers=fields, host=GATE))
    begun = await house.raw(
        request("GET", told(listed)["available"][0]["start"], b"", headers=fields, host=GATE)
    )
    (location,) = begun.values("location")
    state = parse_qs(urlsplit(location.decode()).query)["state"][0]
    trip = begun.values("set-cookie")[0].decode().partition(";")[0]
    path = f"/auth/providers/idp/callback?code=c&state={state}"
    answer = await house.ask("GET", path, headers=[f"{fields[0]}; {trip}"])
    listed = await house.raw(request("GET", "/auth/links", b"", headers=fields, host=GATE))
    return answer, told(listed)["links"]


@pytest.mark.parametrize("began", ["before", "after"])
async def test_who_is_at_the_second_factor_is_ended_by_name_where_they_began_before(
    house: House, began: str
) -> None:
    """Though their link was looked up behind the end, and so names nothing that has gone."""
    secret, _ = await enrol(house)
    ended = house.deps.providers.ended_sessions
    before = await ended.now(ISSUER)
    await end_there(house, "alice")
    waiting = await at_the_second_factor(
        house, before if began == "before" else await ended.now(ISSUER)
    )
    done = await second_step(house, waiting, code_at(house, secret))
    assert done.status == (401 if began == "before" else 200), done.body
    assert len(await live_sessions(house)) == (0 if began == "before" else 1)


# --- who is named beside the session there


async def both_ended_there(house: House, sid: str = THERE) -> None:
    assert (await told_of_end(house, sub="alice", sid=sid)).status == 200


async def test_who_is_named_beside_a_session_loses_what_may_be_of_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the ID token does not say in which session it was given."""
    begun = {}
    for there in (None, THERE, "another"):
        comes_back_as(house, monkeypatch, there=there)
        (line,) = session_cookies(await come_back(house))
        begun[there] = [f"Cookie: {line.decode().partition(';')[0]}", "Sec-Fetch-Site: same-origin"]
    await both_ended_there(house)
    for there, headers in begun.items():
        status = 200 if there == "another" else 401
        assert (await house.ask("GET", "/auth/me", headers=headers)).status == status
        assert (await house.ask("POST", "/auth/refresh", headers=headers)).status == status


@pytest.mark.parametrize(("there", "goes_on"), [(None, False), (THERE, False), ("another", True)])
async def test_whose_browser_was_sent_there_before_such_an_end_gets_no_session(
    house: House, monkeypatch: pytest.MonkeyPatch, there: str | None, goes_on: bool
) -> None:
    comes_back_as(house, monkeypatch, there=there)
    before = await start(house)
    await both_ended_there(house)
    answer = await come_back_from(house, before)
    assert answer.status == (303 if goes_on else 401), answer.body
    assert len(await live_sessions(house)) == goes_on
    if there != THERE:  # a session that has ended comes back no more
        assert session_cookies(await come_back_from(house, await start(house)))


@pytest.mark.parametrize("beside", [True, False])
async def test_the_end_of_a_session_there_stops_no_second_factor_of_another(
    house: House, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    """Though the account has one of the session that ended."""
    comes_back_as(house, monkeypatch, there="another")
    assert session_cookies(await come_back(house))
    secret, _ = await enrol(house)
    waiting = await at_the_second_factor(house)
    if beside:
        await both_ended_there(house, "another")
    else:
        assert (await ended_there(house, "another")).status == 200
    assert await live_sessions(house) == []
    done = await second_step(house, waiting, code_at(house, secret))
    assert done.status == 200, done.body


# --- what ends behind the first look, and before anything is written


def ends_before(
    house: House, monkeypatch: pytest.MonkeyPatch, writes: type, name: str
) -> list[str]:
    """The end is answered as `name` is called; it is told which were."""
    write, called = getattr(writes, name), list[str]()

    async def slow(*arguments: Any, **named: Any) -> object:
        assert (await ended_there(house)).status == 200
        called.append(name)
        return await write(*arguments, **named)

    monkeypatch.setattr(writes, name, slow)
    return called


async def test_what_ends_behind_the_first_look_is_linked_with_no_account(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    comes_back_as(house, monkeypatch, there=THERE)
    called = ends_before(house, monkeypatch, LinkedIdentities, "link")
    answer, links = await linked_by_hand(house)
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")
    assert (links, called) == ([], ["link"])
    assert kinds_of(house)[-1] == "sign_in_failed"


@pytest.mark.parametrize("was_here", [True, False])
async def test_what_ends_behind_the_first_look_gives_no_role_and_makes_no_account(
    house: House, monkeypatch: pytest.MonkeyPatch, was_here: bool
) -> None:
    if was_here:
        comes_back_as(house, monkeypatch, NEWCOMER, there="another")
        assert (await come_back(house)).status == 303
    comes_back_as(house, monkeypatch, NEWCOMER, there=THERE, roles=("boss",))
    called = ends_before(house, monkeypatch, LinkedIdentities, "sign_in")
    answer = await come_back(house)
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")
    assert called == ["sign_in"]
    known = await house.deps.accounts.by_email(NEWCOMER)
    assert (known and known.roles) == (() if was_here else None)


async def test_what_ends_behind_the_first_look_enrols_no_code_generator(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = await to_enrol(house)
    begun = await house.ask("POST", "/auth/factors/totp", {"mfa_token": waiting})
    called = ends_before(house, monkeypatch, OwnFactors, "confirm_totp")
    body = {"mfa_token": waiting, "code": code_at(house, str(told(begun)["secret"]))}
    answer = await house.ask("POST", "/auth/factors/totp/confirm", body)
    assert (answer.status, reason(answer)) == (400, "invalid_token")
    assert told(answer)["detail"] == SIGN_IN_OVER
    assert called == ["confirm_totp"]
    token = str((await house.sign_in())["access_token"])
    factors = told(await house.ask("GET", "/auth/factors", token=token))
    assert (factors["totp"], factors["recovery_codes_left"]) == (None, 0)


async def test_what_ends_behind_the_first_look_adds_no_passkey(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = await to_enrol(house)
    options = told(await house.ask("POST", f"{PASSKEYS}/options", {"mfa_token": waiting}))
    called = ends_before(house, monkeypatch, OwnPasskeys, "add")
    body = {
        "mfa_token": waiting,
        "challenge_token": options["challenge_token"],
        "credential": Authenticator(URL).create(options["public_key"]),
    }
    answer = await house.ask("POST", PASSKEYS, body)
    assert (answer.status, reason(answer)) == (400, "invalid_token")
    assert told(answer)["detail"] == SIGN_IN_OVER
    assert called == ["add"]
    token = str((await house.sign_in())["access_token"])
    assert told(await house.ask("GET", "/auth/factors", token=token))["passkeys"] == 0
