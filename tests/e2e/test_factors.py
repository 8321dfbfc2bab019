"""Second factors through two gateways on one PostgreSQL and one Valkey, and a route that wants one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest

from bench.factor_guesses import enrol, first_steps, guess_at_once, two_nodes, wrong_codes
from gateway.identity.factors.totp import STEP_S
from gateway.identity.sign_in.throttle import FACTOR_FAILURES
from tests.contract.running import ROUTES, Running, started
from tests.e2e.processes import until
from tests.fixtures_stores import schema_of
from tests.servers import ValkeyServer

pytestmark = pytest.mark.slow

PASSWORD = "correct horse 7 battery"
STEP_UP = """\
  - id: money
    match: {{path: /money}}
    policy: money
    action: money:move
    upstream: echo
"""
MONEY = """\
version: 1
policy: money
rules:
  - {id: second-factor, allow: ["*"], step_up: {amr: [otp], max_age: 5m}}
"""


@pytest.fixture(scope="module")
def nodes(
    tmp_path_factory: pytest.TempPathFactory, postgres_database_url: str
) -> Iterator[tuple[Running, Running]]:
    valkey = ValkeyServer(tmp_path_factory.mktemp("valkey")).start()
    try:
        with (
            schema_of(postgres_database_url) as url,
            two_nodes(tmp_path_factory.mktemp("nodes"), url, valkey.url) as running,
        ):
            yield running
    finally:
        valkey.kill()


def test_of_a_hundred_guesses_at_once_over_two_nodes_five_are_evaluated(
    nodes: tuple[Running, Running],
) -> None:
    secret = enrol(nodes[0], "guessed@example.com")
    tokens = first_steps(nodes, "guessed@example.com", 100)
    answers = guess_at_once(nodes, tokens, wrong_codes(secret, 100))
    assert 1 <= answers[401] <= FACTOR_FAILURES
    assert answers[401] + answers[429] == 100


def test_a_code_that_is_given_on_two_nodes_at_once_lets_in_one(
    nodes: tuple[Running, Running],
) -> None:
    secret = enrol(nodes[1], "replayed@example.com")
    tokens = first_steps(nodes, "replayed@example.com", FACTOR_FAILURES)
    code = pyotp.TOTP(secret).generate_otp(int(time.time()) // STEP_S + 1)
    answers = guess_at_once(nodes, tokens, [code] * FACTOR_FAILURES)
    assert (answers[200], answers[401]) == (1, FACTOR_FAILURES - 1)


@pytest.fixture
def moneyed(tmp_path: Path) -> Iterator[Running]:
    """With a route that wants a second factor of the last five minutes."""
    with started(tmp_path / "g") as running:
        (running.folder / "policies" / "money.yaml").write_text(MONEY)
        text = ROUTES.replace("  - id: me\n", f"{STEP_UP}  - id: me\n")
        port = running.echo.server_address[1]
        (running.folder / "routes.yaml").write_text(text.format(port=port, dead=1))
        until(lambda: running.call("GET", "/money").status == 401, 20)
        yield running


def code_at(secret: str, steps: int) -> str:
    return pyotp.TOTP(secret).generate_otp(int(time.time()) // STEP_S + steps)


def test_a_route_that_wants_a_factor_is_met_after_a_step_up(moneyed: Running) -> None:
    email = "mover@example.com"
    weak = str(moneyed.sign_in(email)["access_token"])
    refused = moneyed.call("GET", "/money", token=weak)
    assert (refused.status, refused.json["reason"]) == (401, "insufficient_user_authentication")
    assert 'acr_values="otp", max_age="300"' in str(refused.get("www-authenticate"))
    token = ("Authorization", f"Bearer {weak}")
    secret = str(moneyed.call("POST", "/auth/factors/totp", token).json["secret"])
    confirm = {"code": code_at(secret, 0)}
    assert (
        moneyed.call("POST", "/auth/factors/totp/confirm", token, json_body=confirm).status == 200
    )
    assert moneyed.call("GET", "/money", token=weak).status == 401
    alone = moneyed.call("POST", "/auth/step-up", token, json_body={"password": PASSWORD})
    assert (alone.status, alone.json["factors"]) == (401, ["totp", "recovery_code"])
    body = {"code": code_at(secret, 1)}
    stepped = moneyed.call("POST", "/auth/step-up", token, json_body=body)
    assert stepped.status == 200, stepped
    assert moneyed.call("GET", "/money", token=stepped.json["access_token"]).status == 200


def test_a_cookie_is_as_strong_as_its_session_has_become(moneyed: Running) -> None:
    moneyed.sign_in("browser@example.com")
    body = {"email": "browser@example.com", "password": PASSWORD, "transport": "cookie"}
    signed_in = moneyed.call("POST", "/auth/login", json_body=body)
    (cookie,) = [
        value.partition(";")[0]
        for name, value in signed_in.fields
        if name.lower() == "set-cookie" and value.startswith("__Host-session")
    ]
    browser = (("Cookie", cookie), ("Sec-Fetch-Site", "same-origin"))
    assert moneyed.call("GET", "/money", *browser).status == 401
    secret = str(moneyed.call("POST", "/auth/factors/totp", *browser).json["secret"])
    confirmed = moneyed.call(
        "POST", "/auth/factors/totp/confirm", *browser, json_body={"code": code_at(secret, 0)}
    )
    assert confirmed.status == 200, confirmed
    assert moneyed.call("GET", "/money", *browser).status == 200
