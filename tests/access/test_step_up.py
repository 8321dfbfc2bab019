"""A rule with `step_up` counts for who has signed in of late, in the ways that it asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.access.step_up import StepUp
from gateway.model import Reason
from tests.access.test_policies import OWN
from tests.access.worlds import NOW, decide, rule_world, who


def test_an_allow_with_step_up_asks_for_a_fresh_sign_in() -> None:
    world = rule_world("- {id: a, allow: ['*'], step_up: {max_age: 5m, amr: [totp]}}")
    stale = who(auth_time=1_800_000_000 - 301, amr=["pwd", "totp"])
    decision = decide(world, OWN, stale)
    assert decision.reason is Reason.INSUFFICIENT_USER_AUTHENTICATION
    assert (decision.max_age_s, decision.amr) == (300, ("totp",))
    assert not decide(world, OWN, who(amr=["pwd"])).allowed
    assert decide(world, OWN, who(amr=["pwd", "totp"])).allowed


@pytest.mark.parametrize("auth_time", [None, 1_800_000_100])
def test_a_sign_in_of_unknown_or_future_time_is_not_fresh(auth_time: int | None) -> None:
    world = rule_world("- {id: a, allow: ['*'], step_up: {max_age: 5m}}")
    caller = who()
    caller.auth_time = auth_time
    assert not decide(world, OWN, caller).allowed


def test_another_allow_makes_the_step_up_unnecessary() -> None:
    world = rule_world("- {id: a, allow: ['*'], step_up: {max_age: 1s}}\n- {id: b, allow: ['*']}")
    assert decide(world, OWN, who(auth_time=0)).rule == "b"


def test_a_deny_with_step_up_is_lifted_by_a_fresh_sign_in() -> None:
    world = rule_world("- {id: a, allow: ['*']}\n- {id: d, deny: ['*'], step_up: {max_age: 1m}}")
    assert decide(world, OWN, who()).allowed
    stale = decide(world, OWN, who(auth_time=0))
    assert stale.reason is Reason.INSUFFICIENT_USER_AUTHENTICATION


# A fresh sign-in, to the second


@pytest.mark.parametrize(
    ("auth_time", "met"),
    [(100, True), (99, False), (160, True), (165, True), (166, False), (None, False)],
)
def test_a_sign_in_is_fresh_for_as_long_as_asked_and_five_seconds_ahead(
    auth_time: int | None, met: bool
) -> None:
    caller = replace(who(), auth_time=auth_time)
    assert StepUp(max_age_s=60).met(caller, 160.0) is met
    assert StepUp().met(caller, 160.0)


def test_nobody_has_signed_in_in_any_way() -> None:
    assert not StepUp().met(None, 160.0)
    assert not StepUp(max_age_s=60).met(None, 160.0)


@pytest.mark.parametrize(
    ("amr", "met"), [((), False), (("pwd",), False), (("otp", "x", "pwd"), True)]
)
def test_every_method_that_is_asked_for_is_needed(amr: tuple[str, ...], met: bool) -> None:
    assert StepUp(amr=("pwd", "otp")).met(who(amr=amr), 160.0) is met


def test_a_step_up_asks_nobody_in_where_a_rule_is_open() -> None:
    world = rule_world("- {id: a, allow: ['*'], step_up: {max_age: 5m}}", route="auth: optional")
    assert decide(world, OWN, who()).allowed
    decision = decide(world, OWN)
    assert (decision.allowed, decision.reason) == (False, Reason.NO_RULE)


def test_the_fields_of_a_rule_with_step_up_need_the_fresh_sign_in_too() -> None:
    world = rule_world(
        """
        - {id: all, allow: ["*"]}
        - {id: fresh, allow: ["*"], step_up: {max_age: 60s}, headers: {X-Fresh: "{user.id}"}}
        """
    )
    for age_s, headers in ((60, (("X-Fresh", "u1"),)), (61, ())):
        assert decide(world, OWN, who(auth_time=NOW - age_s)).headers == headers
