"""What keeps a mailbox away does so however its owner writes the address."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.access.snapshot import Snapshot
from gateway.model import Principal
from tests.access.test_policies import OWN
from tests.access.worlds import decide, rule_world, snapshot, who

OPEN = "- {id: all, allow: ['*']}"
SPELLINGS = (
    "eve@contractor.example",
    "Eve@contractor.example",
    "eve@CONTRACTOR.example",
    "ｅve@ｃontractor.example",
)


def of(email: str | None) -> Principal:
    return dataclasses.replace(who(), email=email, claims={"email": email})


@pytest.mark.parametrize("email", SPELLINGS)
@pytest.mark.parametrize(
    "condition",
    [
        "user.email == 'eve@contractor.example'",
        "user.email.endsWith('@contractor.example')",
        "user.email.matches('.*@contractor[.]example')",
        "user.email in ['x@y.example', 'eve@contractor.example']",
        "user.claims.email == 'eve@contractor.example'",
        "user != null && !(user.email != 'eve@contractor.example')",
        "!user.email.endsWith('@corp.example')",
    ],
)
def test_a_deny_applies_to_every_spelling(condition: str, email: str) -> None:
    world = rule_world(f'{OPEN}\n- {{id: d, deny: ["*"], when: "{condition}", reason: gone}}')
    decision = decide(world, OWN, of(email))
    assert (decision.allowed, decision.reason, decision.rule) == (False, "gone", "d")


@pytest.mark.parametrize("email", SPELLINGS)
@pytest.mark.parametrize(
    "condition",
    [
        "user.email != 'eve@contractor.example'",
        "!user.email.endsWith('@contractor.example')",
        "user != null && !(user.email in ['eve@contractor.example'])",
        "!(user.email == 'eve@contractor.example' || user.id == 'x')",
        "user.email.endsWith('@contractor.example') ? false : true",
        "user.email.endsWith('@contractor.example') == false",
    ],
)
def test_an_allow_for_all_but_one_is_for_none_of_its_spellings(condition: str, email: str) -> None:
    world = rule_world(f'- {{id: a, allow: ["*"], when: "{condition}"}}')
    assert not decide(world, OWN, of(email)).allowed
    assert decide(world, OWN, of("Ann@Corp.example")).allowed


@pytest.mark.parametrize(
    ("condition", "email", "passes"),
    [
        ("user.email == 'gross@corp.example'", "groß@corp.example", False),
        ("user.email == 'groß@corp.example'", "groß@corp.example", True),
        ("user.email == 'Ann@Corp.example'", "Ann@Corp.example", True),
        ("user.email == 'ann@corp.example'", "Ann@Corp.example", False),
        # Only what asks that it is not some address is asked of the other spellings.
        ("user != null && user.email == 'Ann@Corp.example'", "Ann@Corp.example", True),
        ("user.email == 'Ann@Corp.example' && user.email != 'eve@x.example'",
         "Ann@Corp.example", True),
        ("user.email == null || user.email == 'Ann@Corp.example'", "Ann@Corp.example", True),
    ],
)  # fmt: skip
def test_what_lets_pass_takes_the_address_as_it_was_written(
    condition: str, email: str, passes: bool
) -> None:
    world = rule_world(f'- {{id: a, allow: ["*"], when: "{condition}"}}')
    assert decide(world, OWN, of(email)).allowed is passes


def test_a_host_is_found_in_its_own_letters_and_in_ascii() -> None:
    for named in ("@straße.example", "@xn--strae-oqa.example"):
        world = rule_world(
            f"{OPEN}\n- {{id: d, deny: ['*'], when: \"user.email.endsWith('{named}')\"}}"
        )
        for email in ("eve@straße.example", "EVE@XN--STRAE-OQA.example", "eve@STRAßE.example"):
            assert not decide(world, OWN, of(email)).allowed
        assert decide(world, OWN, of("eve@strasse.example")).allowed


def test_a_deny_that_asks_for_a_fresh_sign_in_asks_every_spelling() -> None:
    world = rule_world(
        f"{OPEN}\n- {{id: d, deny: ['*'], when: \"user.email == 'eve@x.example'\", step_up: {{max_age: 1m}}}}"
    )
    assert decide(world, OWN, of("EVE@x.example")).allowed
    stale = dataclasses.replace(of("EVE@x.example"), auth_time=0)
    assert decide(world, OWN, stale).max_age_s == 60


def test_who_has_no_address_is_judged_once() -> None:
    world = rule_world(f"{OPEN}\n- {{id: d, deny: ['*'], when: \"user.email == 'eve@x.example'\"}}")
    assert decide(world, OWN, of(None)).allowed
    assert decide(world, OWN, of("EVE x")).allowed


ROUTE = 'id: x, match: {path: "/x"}, policy: p, upstream: api'
DATA = "version: 1\nlow: [eve@x.example]\nhigh: [a@x.example, Eve@x.example]\nby: {Eve@x.example: {n: 1}}\n"


def _world(rule: str) -> Snapshot:
    return snapshot(
        f"- {{{ROUTE}}}",
        f"policy: p\nrules:\n  - {{id: all, allow: ['*']}}\n  - {{id: r, {rule}}}\n",
        data__tables=DATA,
    )


@pytest.mark.parametrize(
    "rule",
    [
        "deny: ['*'], when: \"user.email == 'Eve@x.example'\"",
        "deny: ['*'], when: \"user.email.endsWith('@X.example')\"",
        "deny: ['*'], when: \"'Eve@x.example' == user.claims.email\"",
        "deny: ['*'], when: \"user.email in data.high\"",
        "deny: ['*'], when: \"user.email in data.by\"",
        "deny: ['*'], when: \"user != null && (user.email in ['a@x.example', 'EVE@x.example'])\"",
        "allow: ['*'], when: \"user.email != 'Eve@x.example'\"",
    ],
)
def test_a_text_with_capitals_that_keeps_somebody_away_is_told(rule: str) -> None:
    (told,) = [str(one) for one in _world(rule).notices if "spellings" in str(one)]
    assert told.startswith("policies/p0.yaml:5:")
    assert "write `" in told


@pytest.mark.parametrize(
    "rule",
    [
        "deny: ['*'], when: \"user.email == 'eve@x.example'\"",
        "deny: ['*'], when: \"user.email in data.low\"",
        "deny: ['*'], when: \"user.id == 'Eve'\"",
        "allow: ['*'], when: \"user.email == 'Eve@x.example'\"",
    ],
)
def test_what_finds_all_spellings_and_what_lets_pass_is_not_told(rule: str) -> None:
    assert not [str(one) for one in _world(rule).notices if "spellings" in str(one)]
