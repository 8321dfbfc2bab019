"""Forms and links that no page of ours has made: a refusal each, that costs no more than others."""

from __future__ import annotations

import cProfile
from collections.abc import Callable

import pytest
import segno

from gateway.access.definitions import Limit, LimitKey
from gateway.edge.endpoints import rate_limits
from gateway.edge.pages import qr_codes
from tests.edge.auth_house import CREDENTIALS, EMAIL
from tests.edge.pages.visitor import Visitor, document, location

ENROL = "/auth/ui/sign-in/enrol"
LONG_URI = "otpauth://totp/" + "a1-b" * 240 + "?secret=ABCDEFGH"


@pytest.mark.parametrize(
    "form", [{}, {"code": "123456"}, {"mfa_token": "x"}, {"mfa_token": "x", "code": "123456"}]
)
async def test_nobody_has_a_code_drawn_without_a_password(
    visitor: Visitor, form: dict[str, str]
) -> None:
    answer = await visitor.post(ENROL, {**form, "otpauth_uri": LONG_URI})
    assert b"<path" not in answer.body
    assert len(answer.body) < 10_000


def test_a_code_that_is_not_drawn_is_still_typed() -> None:
    assert qr_codes.qr_code(LONG_URI, drawn=False) == {
        "qr_path": "",
        "qr_side": "0",
        "secret": "ABCD EFGH",
    }
    assert qr_codes.qr_code(LONG_URI)["qr_path"]


@pytest.mark.parametrize("letter", ["\U0001f600", "\ud800"])
def test_of_what_no_code_can_hold_none_is_drawn(letter: str) -> None:
    """A URI is ASCII: whoever is signed in can send the form with anything."""
    uri = "otpauth://totp/" + letter * 900 + "?secret=ABCDEFGH"
    assert qr_codes.qr_code(uri)["qr_path"] == ""


def test_to_draw_a_code_tries_one_pattern() -> None:
    uri = "otpauth://totp/" + "a" * 250 + "?secret=ABCDEFGHIJKLMNOPQRSTUVWXYZ234567&issuer=x"

    def calls(draw: Callable[[], object]) -> int:
        profile = cProfile.Profile()
        profile.runcall(draw)
        return sum(entry.callcount for entry in profile.getstats())

    all_patterns = calls(lambda: segno.make(uri, micro=False, error="m"))
    assert calls(lambda: qr_codes.qr_code(uri)) < all_patterns / 2


@pytest.mark.parametrize("text", ["a%0d%0aSet-Cookie:%20x=y", "x%26done=deleted%23f", "%C3%A9 b"])
async def test_a_return_to_of_any_characters_stays_a_parameter(visitor: Visitor, text: str) -> None:
    answer = await visitor.get(f"/auth/ui/step-up?return_to={text.replace(' ', '%20')}")
    sent = text.replace(" ", "%20").replace(":", "%3A").replace("=", "%3D")
    path, _, value = location(answer).partition("?return_to=")
    assert path == "/auth/ui/sign-in"
    assert value.lower() == sent.lower()
    assert not answer.values("set-cookie")


@pytest.mark.parametrize("action", ["remove-passkey", "rename-passkey"])
async def test_what_names_no_passkey_is_none(visitor: Visitor, action: str) -> None:
    await visitor.post("/auth/ui/sign-in", CREDENTIALS)
    for name in ("options", "", "a/b"):
        answer = await visitor.post(f"/auth/ui/account/{action}", {"id": name, "name": "n"})
        assert answer.status < 500, name


async def test_where_no_challenge_is_to_be_had_a_wrong_password_is_told_without(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = (Limit("auth/captcha", LimitKey.ADDRESS, 0.001, 1),)
    by_endpoint = {**rate_limits.BY_ENDPOINT, ("captcha",): none}
    monkeypatch.setattr(rate_limits, "BY_ENDPOINT", by_endpoint)
    forms = [
        {"email": email, "password": "no password of hers"} for email in (EMAIL, "b@c.example")
    ]
    first, second = [await visitor.post("/auth/ui/sign-in", form) for form in forms]
    assert (first.status, second.status) == (401, 401)
    assert document(first).form("/sign-in").fields.get("captcha") is not None
    assert "captcha" not in document(second).form("/sign-in").fields
