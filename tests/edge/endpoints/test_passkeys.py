"""`/auth/factors/passkeys` through real sockets, with a software authenticator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.access.factor_rule import FactorRule
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.factor_changes import FRESH_S
from gateway.identity.factors.challenges import CHALLENGE_TTL_S
from gateway.identity.factors.passkey_records import NewCredential
from gateway.identity.factors.passkeys import PASSKEYS_MAX, insert_passkey, new_passkey
from tests.authenticator import (
    BACKUP_ELIGIBLE,
    USER_PRESENT,
    Authenticator,
    PrivateKey,
    shared_references,
    unb64,
)
from tests.cpu_cost import awaited_cost_ratio
from tests.edge.auth_house import (
    CREDENTIALS,
    EMAIL,
    URL,
    House,
    open_house,
    reason,
    request,
    told,
)
from tests.edge.endpoints.passkey_calls import (
    PASSKEYS,
    add_passkey,
    asked_to_register,
    outbox,
    register,
    signed_in_by_passkey,
    token_of,
)
from tests.edge.rig import Answer

NEW = NewCredential("AAAA", "AAAA", 0, False, False, None, (), "")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        await opened.register()
        yield opened


@pytest.fixture
def authenticator() -> Authenticator:
    return Authenticator(URL)


async def test_a_passkey_is_added_listed_renamed_and_removed(
    house: House, authenticator: Authenticator
) -> None:
    token = await token_of(house)
    options = await asked_to_register(house, token)
    public_key = options["public_key"]
    assert public_key["rp"] == {"id": "gate.example", "name": "gate.example"}
    assert public_key["attestation"] == "none"
    assert public_key["excludeCredentials"] == []
    selection = public_key["authenticatorSelection"]
    assert (selection["residentKey"], selection["userVerification"]) == ("preferred", "preferred")

    answer = await house.ask(
        "POST",
        PASSKEYS,
        {
            "challenge_token": options["challenge_token"],
            "credential": authenticator.create(public_key),
            "name": "laptop",
        },
        token=token,
    )
    assert answer.status == 200
    assert len(told(answer)["recovery_codes"]) == 10
    passkey = told(answer)["passkey"]
    assert passkey["name"] == "laptop"
    assert passkey["discoverable"] is True
    assert passkey["transports"] == ["hybrid", "internal"]
    assert passkey["last_used_at"] is None
    assert (passkey["backup_eligible"], passkey["backed_up"]) == (False, False)

    with_passkey = await signed_in_by_passkey(house, authenticator)
    path = f"{PASSKEYS}/{passkey['passkey_id']}"
    renamed = await house.ask("PATCH", path, {"name": "old laptop"}, token=with_passkey)
    assert (renamed.status, told(renamed)["name"]) == (200, "old laptop")
    (listed,) = told(await house.ask("GET", PASSKEYS, token=with_passkey))["passkeys"]
    assert listed["last_used_at"] is not None
    assert listed == {**passkey, "name": "old laptop", "last_used_at": listed["last_used_at"]}
    exported = told(await house.ask("GET", "/auth/me/export", token=with_passkey))
    assert exported["passkeys"] == [listed]

    assert (await house.ask("DELETE", path, token=with_passkey)).status == 204
    assert told(await house.ask("GET", PASSKEYS, token=with_passkey)) == {"passkeys": []}
    of_passkey = [event.kind for event in house.recorded.events if event.detail.get("passkey_id")]
    assert of_passkey == [
        AuditKind.FACTOR_ADDED,
        AuditKind.PASSKEY_RENAMED,
        AuditKind.FACTOR_REMOVED,
    ]
    assert [mail for mail in await outbox(house) if "factor" in mail] == [
        "factor_added",
        "factor_removed",
    ]


async def test_an_account_is_known_to_authenticators_by_a_handle_of_its_own(
    house: House, authenticator: Authenticator
) -> None:
    token = await token_of(house)
    first = (await asked_to_register(house, token))["public_key"]
    await add_passkey(house, authenticator, token)
    with_passkey = await signed_in_by_passkey(house, authenticator)
    second = (await asked_to_register(house, with_passkey))["public_key"]
    assert first["user"]["id"] == second["user"]["id"]
    assert len(unb64(first["user"]["id"])) == 32
    assert first["challenge"] != second["challenge"]
    (excluded,) = second["excludeCredentials"]
    assert unb64(excluded["id"]) == authenticator.credentials[0].id

    await house.register("bob@example.com")
    bob = str((await house.sign_in("bob@example.com"))["access_token"])
    others = (await asked_to_register(house, bob))["public_key"]
    assert others["user"]["id"] != first["user"]["id"]


async def test_a_stolen_session_gains_no_passkey(
    house: House, authenticator: Authenticator
) -> None:
    """It is asked for a sign-in of just now, and once there is a passkey for one with it."""
    token = await token_of(house)
    await add_passkey(house, authenticator, token)
    for method, path in (
        ("POST", f"{PASSKEYS}/options"),
        ("DELETE", f"{PASSKEYS}/passkey-0"),
    ):
        answer = await house.ask(method, path, token=token)
        assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")
        (challenge,) = answer.values("www-authenticate")
        assert f'max_age="{FRESH_S}"'.encode() in challenge
    with_passkey = await signed_in_by_passkey(house, authenticator)
    assert (await house.ask("POST", f"{PASSKEYS}/options", token=with_passkey)).status == 200
    house.clock.move(FRESH_S + 1)
    bodies: list[dict[str, Any]] = [{"challenge_token": "a", "credential": {}}, {"name": "mine"}]
    for body in bodies:
        method, path = ("PATCH", f"{PASSKEYS}/passkey-0") if "name" in body else ("POST", PASSKEYS)
        answer = await house.ask(method, path, body, token=with_passkey)
        assert reason(answer) == "insufficient_user_authentication"


async def test_a_page_of_one_application_changes_no_passkeys(house: House) -> None:
    """A session cookie that counts at its host alone is of no use for what counts everywhere."""
    signed_in = await house.ask(
        "POST", "/auth/login", {**CREDENTIALS, "transport": "cookie"}, headers=()
    )
    line = next(v for v in signed_in.values("set-cookie") if v.startswith(b"__Host-session="))
    cookie = line.split(b";")[0].decode()
    browser = [f"Cookie: {cookie}", "Sec-Fetch-Site: same-origin"]
    answer = await house.ask("POST", f"{PASSKEYS}/options", headers=browser)
    assert answer.status == 200
    crossed = await house.raw(
        request("POST", f"{PASSKEYS}/options", b"", headers=browser, host="app1.example")
    )
    assert (crossed.status, reason(crossed)) == (403, "cross_origin")


async def test_a_registration_is_good_once_for_five_minutes_for_its_session_alone(
    house: House, authenticator: Authenticator
) -> None:
    token = await token_of(house)
    options = await asked_to_register(house, token)
    body = {
        "challenge_token": options["challenge_token"],
        "credential": authenticator.create(options["public_key"]),
    }
    other = await token_of(house)
    stolen = await house.ask("POST", PASSKEYS, body, token=other)
    assert (stolen.status, reason(stolen)) == (400, "invalid_token")
    assert told(stolen)["detail"].startswith("The challenge ")
    for tampered in ("", "A" * 43, options["challenge_token"][:-4], "é"):
        answer = await house.ask(
            "POST", PASSKEYS, {**body, "challenge_token": tampered}, token=token
        )
        assert answer.status in (400, 422)
    assert (await house.ask("POST", PASSKEYS, body, token=token)).status == 200
    house.recorded.events.clear()

    with_passkey = await signed_in_by_passkey(house, authenticator)
    again = await house.ask("POST", PASSKEYS, body, token=with_passkey)
    assert reason(again) == "invalid_token"
    late = await asked_to_register(house, with_passkey)
    house.clock.move(CHALLENGE_TTL_S)
    body = {
        "challenge_token": late["challenge_token"],
        "credential": authenticator.create(late["public_key"]),
    }
    answer = await house.ask("POST", PASSKEYS, body, token=with_passkey)
    assert reason(answer) == "invalid_token"


def refused(answer: Answer) -> bool:
    return (answer.status, [e["field"] for e in told(answer).get("errors", ())]) == (
        422,
        ["credential"],
    )


WRONG_CLIENT_DATA: list[dict[str, Any]] = [
    {"origin": "https://evil.example"},
    {"origin": "https://app1.example"},
    {"origin": "http://gate.example"},
    {"origin": None},
    {"crossOrigin": True},
    {"crossOrigin": 0},
    {"crossOrigin": False, "topOrigin": "https://evil.example"},
    {"type": "webauthn.get"},
    {"challenge": "AAAA"},
    {"challenge": 7},
]


async def test_a_registration_by_another_page_or_for_another_challenge_is_refused(
    house: House, authenticator: Authenticator
) -> None:
    token = await token_of(house)
    for wrong in WRONG_CLIENT_DATA:
        authenticator.client_data = wrong
        assert refused(await register(house, authenticator, token)), wrong


async def test_a_registration_for_another_relying_party_is_refused(
    house: House, authenticator: Authenticator
) -> None:
    token = await token_of(house)
    options = await asked_to_register(house, token)
    public_key = {**options["public_key"], "rp": {"id": "evil.example", "name": ""}}
    body = {
        "challenge_token": options["challenge_token"],
        "credential": authenticator.create(public_key),
    }
    assert refused(await house.ask("POST", PASSKEYS, body, token=token))


async def test_nobody_need_be_there_is_no_registration(
    house: House, authenticator: Authenticator
) -> None:
    authenticator.flags = 0
    assert refused(await register(house, authenticator, await token_of(house)))


async def test_keys_of_each_kind_that_is_offered_sign_in(house: House) -> None:
    offered = (await asked_to_register(house, await token_of(house)))["public_key"]
    assert [one["alg"] for one in offered["pubKeyCredParams"]] == [-7, -8, -257]
    keys: list[PrivateKey] = [
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65_537, 2_048),
    ]
    token = await token_of(house)
    for key in keys:
        authenticator = Authenticator(URL, new_key=key)
        await add_passkey(house, authenticator, token)
        token = await signed_in_by_passkey(house, authenticator)


async def test_a_key_of_another_kind_is_refused(house: House, authenticator: Authenticator) -> None:
    """Of a curve that its algorithm does not name, of an exponent that takes long, and short."""
    token = await token_of(house)
    keys: list[PrivateKey] = [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(3, 2_048),
        rsa.generate_private_key(65_537, 1_024),
    ]
    for key in keys:
        authenticator.new_key = key
        assert refused(await register(house, authenticator, token))


async def test_a_key_that_no_curve_holds_is_refused(
    house: House, authenticator: Authenticator
) -> None:
    token = await token_of(house)
    cose_keys = [
        cbor2.dumps({1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(32)}),
        cbor2.dumps({1: 2, 3: -7}),
        cbor2.dumps({}),
        cbor2.dumps(7),
        cbor2.dumps({1: "2", 3: [], -1: {}, -2: "x", -3: None}),
        cbor2.dumps({1: 2, 3: -7, -1: 1, -2: b"", -3: b""}),
        b"",
        b"\xff",
        shared_references(40),
    ]
    for cose_key in cose_keys:
        options = await asked_to_register(house, token)
        authenticator.create(options["public_key"])
        credential = authenticator.attested(
            authenticator.credentials[-1], options["public_key"]["challenge"], cose_key
        )
        body = {"challenge_token": options["challenge_token"], "credential": credential}
        assert refused(await house.ask("POST", PASSKEYS, body, token=token))


async def test_a_few_bytes_that_stand_for_many_keep_nobody_waiting(
    house: House, authenticator: Authenticator
) -> None:
    """Shared references (CBOR tag 29): a reader that follows these is busy for a second, and for
    hours with some more."""
    authenticator.extensions = shared_references(18)
    token = await token_of(house)

    async def ask() -> None:
        assert refused(await register(house, authenticator, token))

    assert await awaited_cost_ratio(ask, rounds=2) < 200


async def test_extensions_that_an_authenticator_adds_are_let_be(
    house: House, authenticator: Authenticator
) -> None:
    authenticator.extensions = cbor2.dumps({"credProtect": 2})
    await add_passkey(house, authenticator)


async def test_a_credential_belongs_to_one_account(
    house: House, authenticator: Authenticator
) -> None:
    await add_passkey(house, authenticator)
    await house.register("bob@example.com")
    bob = str((await house.sign_in("bob@example.com"))["access_token"])
    options = await asked_to_register(house, bob)
    credential = authenticator.attested(
        authenticator.credentials[0], options["public_key"]["challenge"]
    )
    body = {"challenge_token": options["challenge_token"], "credential": credential}
    answer = await house.ask("POST", PASSKEYS, body, token=bob)
    assert told(answer)["errors"] == [{"field": "credential", "problem": "is registered already"}]


async def test_somebody_elses_passkey_is_none(house: House, authenticator: Authenticator) -> None:
    passkey = await add_passkey(house, authenticator)
    await house.register("bob@example.com")
    bob = str((await house.sign_in("bob@example.com"))["access_token"])
    path = f"{PASSKEYS}/{passkey['passkey_id']}"
    calls: list[tuple[str, dict[str, str] | None]] = [("PATCH", {"name": "mine"}), ("DELETE", None)]
    for method, body in calls:
        answer = await house.ask(method, path, body, token=bob)
        assert (answer.status, reason(answer)) == (404, "route_unknown")
    assert told(await house.ask("GET", PASSKEYS, token=bob)) == {"passkeys": []}


async def test_an_account_has_so_many_passkeys_and_no_more(
    house: House, authenticator: Authenticator
) -> None:
    token = await token_of(house)
    for _ in range(PASSKEYS_MAX):
        await add_passkey(house, authenticator, token)
        token = await signed_in_by_passkey(house, authenticator)
    answer = await house.ask("POST", f"{PASSKEYS}/options", token=token)
    assert "at most" in told(answer)["errors"][0]["problem"]


async def test_a_name_is_printable(house: House, authenticator: Authenticator) -> None:
    token = await token_of(house)
    names: list[Any] = ["", " ", "a\nb", "\u202e", "x" * 65, 7]
    for name in names:
        body: dict[str, Any] = {"challenge_token": "a", "credential": {}, "name": name}
        answer = await house.ask("POST", PASSKEYS, body, token=token)
        assert [one["field"] for one in told(answer)["errors"]] == ["name"]


async def test_with_a_passkey_end_the_other_sessions(
    house: House, authenticator: Authenticator
) -> None:
    passkey = await add_passkey(house, authenticator)
    stolen = await signed_in_by_passkey(house, authenticator)
    own = await signed_in_by_passkey(house, authenticator)
    path = f"{PASSKEYS}/{passkey['passkey_id']}"
    house.workers.confirm = False
    pending = await house.ask("DELETE", path, token=own)
    assert (pending.status, reason(pending)) == (503, "revocation_pending")
    house.workers.confirm = True
    ended = await house.ask("GET", "/auth/me", token=stolen)
    assert (ended.status, reason(ended)) == (401, "token_revoked")
    assert (await house.ask("GET", "/auth/me", token=own)).status == 200


async def test_a_session_that_has_added_a_passkey_has_given_a_factor(
    house: House, authenticator: Authenticator
) -> None:
    """It need not be asked for at once again, and a second passkey may follow."""
    first = told(await register(house, authenticator, await token_of(house)))
    second = told(await register(house, Authenticator(URL), first["access_token"]))
    assert "recovery_codes" not in second
    factors = told(await house.ask("GET", "/auth/factors", token=second["access_token"]))
    assert factors["passkeys"] == 2
    assert factors["recovery_codes_left"] == 10


async def test_a_session_whose_account_gets_a_factor_meanwhile_adds_none(
    house: House, authenticator: Authenticator
) -> None:
    """Who has stolen a session asks early, and adds once its owner has a factor."""
    stolen = await token_of(house)
    options = await asked_to_register(house, stolen)
    body = {
        "challenge_token": options["challenge_token"],
        "credential": authenticator.create(options["public_key"]),
    }
    adding = house.deps.limits.passkey_wait_s

    async def owner_is_faster(account_id: str) -> float:
        house.deps.limits.passkey_wait_s = adding  # type: ignore[method-assign]
        async with house.database.transaction() as tx:
            await insert_passkey(tx, new_passkey(account_id, "owner's", NEW, 1))
        return 0.0

    house.deps.limits.passkey_wait_s = owner_is_faster  # type: ignore[method-assign]
    answer = await house.ask("POST", PASSKEYS, body, token=stolen)
    assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")


async def test_whether_a_passkey_can_be_copied_is_told(
    house: House, authenticator: Authenticator
) -> None:
    authenticator.flags |= BACKUP_ELIGIBLE
    assert (await add_passkey(house, authenticator))["backup_eligible"] is True


async def test_backed_up_and_not_eligible_is_no_credential(
    house: House, authenticator: Authenticator
) -> None:
    authenticator.flags = USER_PRESENT | 0x10
    assert refused(await register(house, authenticator, await token_of(house)))


async def test_who_has_to_enrol_a_factor_enrols_a_passkey_and_is_signed_in(
    tmp_path: Path, authenticator: Authenticator
) -> None:
    async with open_house(tmp_path, factor_rule=FactorRule(everyone=True)) as house:
        await house.register()
        asked = await house.ask("POST", "/auth/login", CREDENTIALS)
        assert (reason(asked), told(asked)["enrol"]) == ("insufficient_user_authentication", True)
        mfa_token = told(asked)["mfa_token"]
        options = await house.ask("POST", f"{PASSKEYS}/options", {"mfa_token": mfa_token})
        body = {
            "mfa_token": mfa_token,
            "challenge_token": told(options)["challenge_token"],
            "credential": authenticator.create(told(options)["public_key"]),
        }
        other = await house.ask("POST", "/auth/login", CREDENTIALS)
        stolen = {**body, "mfa_token": told(other)["mfa_token"]}
        refused = await house.ask("POST", PASSKEYS, stolen)
        assert (refused.status, reason(refused)) == (400, "invalid_token")
        added = await house.ask("POST", PASSKEYS, body)
        assert added.status == 200, added.body
        me = await house.ask("GET", "/auth/me", token=told(added)["access_token"])
        assert told(me)["email"] == EMAIL
        assert len(told(added)["recovery_codes"]) == 10
        await signed_in_by_passkey(house, authenticator)
