"""A refusal says what came: a cookie without proof of intent is not "none came"."""

from __future__ import annotations

import pytest

from tests.contract.running import Running

WHO = {"email": "Uncounted@Example.com", "password": "correct horse 7 battery"}


@pytest.fixture(scope="module")
def cookie(gateway: Running) -> str:
    gateway.sign_in(WHO["email"])
    login = gateway.call("POST", "/auth/login", json_body=WHO | {"transport": "cookie"})
    lines = [line for line in login.all("set-cookie") if line.startswith("__Host-session=")]
    return lines[0].partition(";")[0]


def refused(gateway: Running, path: str, *fields: tuple[str, str]) -> str:
    answer = gateway.call("GET", path, *fields)
    assert (answer.status, answer.reason) == (401, "no_credential")
    assert answer.get("www-authenticate") is not None
    return str(answer.json["detail"])


@pytest.mark.parametrize("path", ["/me", "/auth/me"])
def test_a_cookie_without_proof_of_intent_is_told_of(
    gateway: Running, cookie: str, path: str
) -> None:
    unproven = refused(gateway, path, ("Cookie", cookie))
    assert "nothing shows which page sent the session cookie" in unproven
    foreign = refused(gateway, path, ("Cookie", cookie), ("Sec-Fetch-Site", "cross-site"))
    assert "the session cookie came with a call of a page of another origin" in foreign
    wrong = refused(gateway, path, ("Cookie", cookie), ("X-CSRF-Token", "wrong"))
    assert "the X-CSRF-Token beside the session cookie is not that of its session" in wrong
    for detail in (unproven, foreign, wrong):
        assert cookie.partition("=")[2] not in detail
    proven = gateway.call("GET", path, ("Cookie", cookie), ("Sec-Fetch-Site", "same-origin"))
    assert proven.status == 200


@pytest.mark.parametrize("path", ["/me", "/auth/me"])
def test_an_authorization_of_another_scheme_is_told_of_and_not_repeated(
    gateway: Running, path: str
) -> None:
    secret = "YW5uOmh1bnRlcjI="
    detail = refused(gateway, path, ("Authorization", f"Basic {secret}"))
    assert "its Authorization is of the scheme Basic, and Bearer is taken here" in detail
    other = refused(gateway, path, ("Authorization", f"{secret} {secret}"))
    assert "of another scheme" in other
    assert secret not in detail + other


def test_where_nothing_came_that_is_said(gateway: Running) -> None:
    assert refused(gateway, "/me") == "This call needs a credential, and none came."
