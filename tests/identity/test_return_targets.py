"""Where a sign-in leads back to: only to where this gateway sealed it, whatever comes."""

from __future__ import annotations

import pytest

from gateway.access.routing.own_paths import OwnPaths
from gateway.access.step_up import StepUp
from gateway.identity.base64url import decoded, encoded
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.sealed_tokens import SealedTokens
from gateway.identity.sessions.hand_over import RETURN_TO_MAX
from gateway.identity.sign_in.return_targets import RETURN_TTL_S, ReturnTargets
from tests.identity.keyring import HandClock

GATE, APP, OTHER = "gate.example", "app.example", "blog.example"
KEY = derived_key(bytes(32), KeyPurpose.RETURN_TO)


CLOCK = HandClock(1_000.0)
SHARING = {APP}
TARGETS = ReturnTargets(
    KEY,
    CLOCK,
    public_url="https://gate.example:8443",
    own_paths=OwnPaths("/login"),
    shared_hosts=lambda: frozenset(SHARING),
)


def led_to(path: str, sealed_at: str = GATE, opened_at: str = GATE) -> str | None:
    target = TARGETS.open(TARGETS.seal(sealed_at, path), opened_at)
    return None if target is None else target.location


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/orders/7?sort=asc&page=2",
        "/a%20b/%C3%A4",
        "/a?next=//evil.example",
        "/a?next=https://evil.example/",
        "/" + "x" * (RETURN_TO_MAX - 1),
    ],
)
def test_a_sign_in_leads_back_to_the_very_path(path: str) -> None:
    assert led_to(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "orders",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/%09/evil.example",
        "/\n/evil.example",
        "/x\r\nSet-Cookie: a=b",
        "/x%0d%0aSet-Cookie:%20a=b",
        "https://evil.example/",
        "https:evil.example",
        "https:/evil.example",
        "HTTPS://evil.example/",
        "https://gate.example:8443@evil.example/",
        "https://gate.example:9/",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        ".evil.example",
        "@evil.example",
        ":@evil.example",
        "/..//evil.example",
        "/.//evil.example",
        "/%2e%2e//evil.example",
        "/a//evil.example",
        "/a/../..//evil.example",
        "/\N{FULLWIDTH SOLIDUS}evil.example",
        "/%EF%BC%8Fevil.example",
        "/\N{IDEOGRAPHIC FULL STOP}evil.example",
        " //evil.example",
        "\x00//evil.example",
        "/#//evil.example",
        "/" + "x" * RETURN_TO_MAX,
    ],
)
def test_what_is_no_plain_path_of_its_own_leads_to_the_root(path: str) -> None:
    assert led_to(path) == "/"


def test_a_backslash_that_stays_encoded_is_part_of_a_name() -> None:
    assert led_to("/%5Cevil.example") == "/%5Cevil.example"


def test_an_encoded_slash_is_part_of_a_name_but_at_its_beginning() -> None:
    assert led_to("/a%2Fb") == "/a%2Fb"
    assert led_to("/%2Fevil.example") == "/"


def test_from_the_public_host_it_leads_through_the_hand_over_of_one_that_shares_the_session() -> (
    None
):
    expected = "https://app.example:8443/login/hand-over/start?return_to=/page%3Fx%3D1"
    assert led_to("/page?x=1", sealed_at=APP) == expected


def test_a_host_that_shares_nothing_leads_back_to_itself_alone() -> None:
    assert led_to("/page", sealed_at=OTHER, opened_at=OTHER) == "/page"
    assert led_to("/page", sealed_at=OTHER) is None
    assert led_to("/page", sealed_at="evil.example") is None


def test_a_host_that_no_longer_shares_the_session_is_not_led_to() -> None:
    sealed = TARGETS.seal(APP, "/page")
    SHARING.remove(APP)
    try:
        assert TARGETS.open(sealed, GATE) is None
    finally:
        SHARING.add(APP)


CONSOLE = "https://console.example:9443"


def led_to_console(path: str, opened_at: str = GATE) -> str | None:
    target = TARGETS.open(TARGETS.seal_for_console(CONSOLE, path), opened_at)
    return None if target is None else target.location


def test_the_console_is_led_to_through_where_it_asks_for_a_session() -> None:
    start = f"{CONSOLE}/admin/sign-in/start?return_to="
    assert (
        led_to_console("/accounts?page=2&q=a%20b") == start + "/accounts%3Fpage%3D2%26q%3Da%2520b"
    )
    assert led_to_console("/", opened_at=OTHER) == start + "/"
    assert led_to_console("//evil.example") == start + "/"
    assert led_to_console("https://evil.example/") == start + "/"


def test_what_leads_to_the_console_is_over_after_an_hour_and_says_what_it_asks_for() -> None:
    asked = StepUp(max_age_s=0, amr=("mfa",))
    sealed = TARGETS.seal_for_console(CONSOLE, "/", asked)
    target = TARGETS.open(sealed, GATE)
    assert target is not None
    assert target.asked == asked
    plain = TARGETS.open(TARGETS.seal_for_console(CONSOLE, "/"), GATE)
    assert plain is not None
    assert plain.asked is None
    CLOCK.at += RETURN_TTL_S - 0.5
    assert TARGETS.open(sealed, GATE) is not None
    CLOCK.at += 0.5
    assert TARGETS.open(sealed, GATE) is None


def test_what_is_sealed_for_a_page_never_leads_to_the_console_nor_the_other_way() -> None:
    parts: list[object] = ["https://evil.example", "/page", None, [], 9_999_999_999]
    assert TARGETS.open(SealedTokens(KEY).seal(b"return to", parts), GATE) is None
    target = TARGETS.open(SealedTokens(KEY).seal(b"return to the console", parts), GATE)
    assert target is not None
    assert target.location == "https://evil.example/admin/sign-in/start?return_to=/page"


def test_each_gateway_leads_on_by_its_own_url_its_own_paths_and_its_own_key() -> None:
    def made(key: bytes) -> ReturnTargets:
        return ReturnTargets(
            key,
            HandClock(1_000.0),
            public_url="https://id.example",
            own_paths=OwnPaths("/in"),
            shared_hosts=lambda: frozenset({"shop.example"}),
        )

    targets = made(KEY)
    sealed = targets.seal("shop.example", "/x")
    expected = "https://shop.example/in/hand-over/start?return_to=/x"
    assert targets.location(sealed, "id.example") == expected
    assert made(bytes(32)).open(sealed, "id.example") is None


def test_who_only_leads_on_is_told_where() -> None:
    for host in (GATE, APP, OTHER):
        assert TARGETS.location(TARGETS.seal(host, "/page"), host) == "/page"


def test_what_the_sign_in_must_be_is_sealed_in_with_it() -> None:
    asked = StepUp(max_age_s=300, amr=("otp", "mfa"))
    target = TARGETS.open(TARGETS.seal(GATE, "/pay", asked), GATE)
    assert target is not None
    assert target.asked == asked
    plain = TARGETS.open(TARGETS.seal(GATE, "/pay"), GATE)
    assert plain is not None
    assert plain.asked is None


def test_it_is_over_after_an_hour() -> None:
    sealed = TARGETS.seal(GATE, "/page")
    CLOCK.at += RETURN_TTL_S - 1
    assert TARGETS.open(sealed, GATE) is not None
    CLOCK.at += 1
    assert TARGETS.open(sealed, GATE) is None


@pytest.mark.parametrize("text", ["", "/", "/orders", "https://evil.example/", "x", "é", "A" * 99])
def test_what_was_not_sealed_is_none(text: str) -> None:
    assert TARGETS.open(text, GATE) is None
    assert TARGETS.location(text, GATE) == "/"


def test_no_byte_of_it_can_be_changed() -> None:
    raw = bytearray(decoded(TARGETS.seal(GATE, "/page")) or b"")
    for place in range(len(raw)):
        raw[place] ^= 1
        assert TARGETS.open(encoded(bytes(raw)), GATE) is None
        raw[place] ^= 1


def test_what_is_sealed_for_another_purpose_is_none() -> None:
    parts: list[object] = ["https://gate.example:8443", "/page", None, [], 9_999_999_999]
    assert TARGETS.open(SealedTokens(KEY).seal(b"another kind", parts), GATE) is None
    other_key = derived_key(bytes(32), KeyPurpose.HAND_OVER)
    assert TARGETS.open(SealedTokens(other_key).seal(b"return to", parts), GATE) is None


@pytest.mark.parametrize("parts", [[], [1], ["https://gate.example:8443", "/page", 1]])
def test_a_text_of_another_shape_is_none(parts: list[object]) -> None:
    sealed = SealedTokens(KEY).seal(b"return to", parts)
    assert TARGETS.open(sealed, GATE) is None


def test_each_text_is_sealed_under_a_key_of_its_own() -> None:
    texts = {TARGETS.seal(GATE, "/page")[:20] for _ in range(100)}
    assert len(texts) == 100
