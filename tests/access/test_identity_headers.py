"""Who calls, rendered for a backend."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.identity_headers import (
    AUTHGATE,
    JSON_LIST,
    PRESETS,
    Encoding,
    IdentityField,
    IdentityHeaders,
    user_field,
)
from gateway.edge.http1.grammar import check_line
from gateway.model import Principal
from tests.access.worlds import NOW, who


def text(value: Any, **options: Any) -> str | None:
    return IdentityField("X-A", lambda principal: value, **options).text(who())


def told(preset: str, caller: Principal) -> dict[str, str]:
    return dict(PRESETS[preset].texts(caller))


VERIFIED = who("u1", "viewer", "EDITOR", email="Ada@Example.com", email_verified=True)


def test_oauth2_proxy_is_what_its_backends_expect() -> None:
    assert told("oauth2-proxy", VERIFIED) == {
        "X-Forwarded-User": "u1",
        "X-Forwarded-Email": "Ada@Example.com",
        "X-Forwarded-Groups": "viewer,EDITOR",
        "X-Forwarded-Preferred-Username": "Ada@Example.com",
    }
    named = who("u1", claims={"preferred_username": "ada"})
    assert told("oauth2-proxy", named)["X-Forwarded-Preferred-Username"] == "ada"


def test_authelia_is_what_its_backends_expect() -> None:
    named = who(
        "u1", "dev", email="ada@x.org", email_verified=True, claims={"name": "Ada Lovelace"}
    )
    assert told("authelia", named) == {
        "Remote-User": "ada@x.org",
        "Remote-Groups": "dev",
        "Remote-Email": "ada@x.org",
        "Remote-Name": "Ada Lovelace",
    }


@pytest.mark.parametrize(
    ("roles", "role"),
    [
        (("viewer", "EDITOR"), "Editor"),
        (("Admin",), "Admin"),
        (("editor", "admin"), "Admin"),
        (("viewer",), "Viewer"),
    ],
)
def test_grafana_is_told_the_highest_role_that_it_knows(roles: tuple[str, ...], role: str) -> None:
    caller = who("u1", *roles, email="ada@x.org", email_verified=True)
    assert told("grafana", caller).get("X-WEBAUTH-ROLE") == role
    assert told("grafana", caller)["X-WEBAUTH-USER"] == "ada@x.org"


@pytest.mark.parametrize("roles", [(), ("dev",)])
def test_who_has_lost_a_role_has_lost_it_in_grafana_too(roles: tuple[str, ...]) -> None:
    """Told nothing, Grafana leaves the role as it was."""
    assert told("grafana", who("u1", *roles))["X-WEBAUTH-ROLE"] == "Viewer"


@pytest.mark.parametrize("preset", ["oauth2-proxy", "authelia", "grafana"])
def test_nobody_takes_an_account_by_registering_its_address(preset: str) -> None:
    # Where mail is not verified, anybody may register under any address.
    stranger = who("u2", email="admin@corp.example", email_verified=False)
    assert not [value for value in told(preset, stranger).values() if "admin@corp" in value]
    assert "u2" in told(preset, stranger).values()


def test_a_claim_that_is_no_text_is_no_name() -> None:
    odd = who("u1", claims={"name": ["a"], "preferred_username": ""})
    assert told("authelia", odd)["Remote-Name"] == "u1"
    assert told("oauth2-proxy", odd)["X-Forwarded-Preferred-Username"] == "u1"


@pytest.mark.parametrize(
    ("value", "options", "sent"),
    [
        ("Zoë 100%", {}, "Zo%C3%AB%20100%25"),
        ("Zoë 100%", {"encoding": Encoding.RFC8187}, "UTF-8''Zo%C3%AB%20100%25"),
        ("Zoë 100%", {"encoding": Encoding.UTF8}, "Zoë 100%"),
        (["a", "b"], {"separator": "|"}, "a|b"),
        (["a", "b"], {"separator": ", "}, "a, b"),
        (["a", "b"], {"separator": ", ", "encoding": Encoding.RFC8187}, "UTF-8''a%2C%20b"),
        ([], {}, ""),
        ([], {"encoding": Encoding.RFC8187}, ""),
        (["a,b", "c"], {}, "a%2Cb,c"),
        (["a,b", "c"], {"encoding": Encoding.UTF8}, None),
        (["a,b", "c"], {"encoding": Encoding.RFC8187}, None),
        (["a|b", "ü"], {"separator": JSON_LIST}, '["a|b","\\u00fc"]'),
        (["ü"], {"separator": JSON_LIST, "encoding": Encoding.UTF8}, '["ü"]'),
        ({"a": 1}, {"separator": JSON_LIST}, '{"a":1}'),
        ({"a": 1}, {}, None),
        ([{"a": 1}], {}, None),
        ([None], {}, None),
        (("a", "b"), {}, "a,b"),
        (("a%", "b"), {}, "a%25,b"),
        ("a,b", {}, "a,b"),
        ("a|b", {"separator": "|"}, "a|b"),
        (True, {}, "true"),
        ([True, False], {}, "true,false"),
        (True, {"encoding": Encoding.RFC8187}, "UTF-8''true"),
        (7, {}, "7"),
        (0.5, {}, "0.5"),
        (float("nan"), {}, None),
        (float("nan"), {"separator": JSON_LIST}, None),
        (None, {}, None),
        (None, {"separator": JSON_LIST}, None),
        ("", {}, None),
        (" a", {"encoding": Encoding.UTF8}, None),
        ("a\r\nX-Role: admin", {}, None),
        (["a\x00b"], {"separator": JSON_LIST}, None),
        ({"a\nb": 1}, {"separator": JSON_LIST}, None),
        ("a\u2028b", {"encoding": Encoding.UTF8}, None),
        ("a\udc80b", {"encoding": Encoding.UTF8}, None),
        (False, {}, "false"),
        ("plain", {"separator": JSON_LIST}, '"plain"'),
        (("a", "b"), {"separator": JSON_LIST}, '["a","b"]'),
        (["a b%"], {"separator": JSON_LIST}, '["a b%"]'),
        (
            ["a b"],
            {"separator": JSON_LIST, "encoding": Encoding.RFC8187},
            "UTF-8''%5B%22a%20b%22%5D",
        ),
        ("ab", {"encoding": Encoding.RFC8187}, "UTF-8''ab"),
        ("a!#b/c", {"encoding": Encoding.RFC8187}, "UTF-8''a!#b%2Fc"),
        (("a!b", "c d"), {}, "a!b,c%20d"),
        (("a b", "c"), {"separator": " ", "encoding": Encoding.UTF8}, None),
        (("é", "c"), {"separator": " ", "encoding": Encoding.UTF8}, "é c"),
        (("a b", "c"), {"separator": ", ", "encoding": Encoding.UTF8}, "a b, c"),
        (["a\nb", {"c": "d"}], {"separator": JSON_LIST}, None),
        (["a\nb", ["c"]], {"separator": JSON_LIST}, None),
        ({"c": {"d": "a\nb"}, "e": {"f": "g"}}, {"separator": JSON_LIST}, None),
    ],
)
def test_a_value_is_rendered_in_one_way_or_left_out(
    value: Any, options: dict[str, Any], sent: str | None
) -> None:
    assert text(value, **options) == sent


def test_what_is_sent_as_it_is_is_printable_and_holds_no_escape_and_no_separator() -> None:
    signs = [chr(code) for code in range(256)]
    printable = {chr(code) for code in range(0x21, 0x7F)}
    for separator, encoding, plain in (
        (",", Encoding.PERCENT, printable - {"%", ","}),
        ("|", Encoding.UTF8, printable - {"%", "|"}),
        (",", Encoding.RFC8187, None),
        (JSON_LIST, Encoding.PERCENT, None),
        (JSON_LIST, Encoding.RFC8187, None),
    ):
        field = IdentityField("X-A", lambda _: "", separator, encoding)
        if plain is None:
            assert field.plain is None
        else:
            assert field.plain is not None
            assert {sign for sign in signs if field.plain.fullmatch(sign)} == plain
            assert field.plain.fullmatch("ab")


def test_the_names_of_the_fields_are_known_in_every_spelling() -> None:
    one = IdentityField("X_Who.Am-I", lambda _: "a")
    two = IdentityField("X-B", lambda _: "b")
    headers = IdentityHeaders((one, two))
    assert headers.names == {b"x-who-am-i", b"x-b"}
    assert headers.lines(who()) == b"X_Who.Am-I: a\r\nX-B: b"
    assert list(headers.texts(who())) == [("X_Who.Am-I", "a"), ("X-B", "b")]


def test_a_field_of_the_caller_is_named_by_its_path() -> None:
    caller = who("u1", "a", email="e@a.example", claims={"x": {"y": 1}, "z": "text"})
    paths = ("id", "email", "email_verified", "roles", "session_id", "auth_time")
    assert [user_field(path)(caller) for path in paths] == [
        "u1", "e@a.example", False, ("a",), "session", int(NOW),
    ]  # fmt: skip
    claims = ("claims.x.y", "claims.x", "claims.z", "claims.z.y", "claims.none.y")
    assert [user_field(path)(caller) for path in claims] == [1, {"y": 1}, "text", None, None]


def test_a_claim_nested_deeper_than_python_recurses_is_left_out() -> None:
    deep: Any = "a"
    for _ in range(100_000):
        deep = [deep]
    assert text(deep) is None
    assert text(deep, separator=JSON_LIST) is None


def test_the_lines_are_rendered_once_for_a_caller() -> None:
    calls: list[str] = []

    def name(principal: Principal) -> str:
        calls.append(principal.subject)
        return principal.subject

    one = IdentityHeaders((IdentityField("X-A", name),))
    caller = who()
    assert one.lines(caller) == one.lines(caller) == b"X-A: u1"
    assert calls == ["u1"]
    assert IdentityHeaders(()).lines(caller) == b""


def test_a_caller_keeps_no_more_renderings_than_it_needs() -> None:
    caller = who()
    for _ in range(1_000):
        AUTHGATE.lines(caller)
        IdentityHeaders(AUTHGATE.fields).lines(caller)
    assert len(caller.identity_lines or {}) <= 8


TEXTS = st.text(st.characters(codec=None), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OPTIONS = st.fixed_dictionaries(
    {
        "separator": st.sampled_from([",", ";", ", ", "|", " ", JSON_LIST]),
        "encoding": st.sampled_from(list(Encoding)),
    }
)


@settings(deadline=None)
@given(VALUES, OPTIONS)
def test_whatever_a_claim_holds_it_is_one_line_of_one_field(
    value: Any, options: dict[str, Any]
) -> None:
    field = IdentityField("X-A", lambda principal: value, **options)
    line = IdentityHeaders((field,)).lines(who())
    if line:
        check_line(line)
        assert not re.search(rb"[\x00-\x1f\x7f]", line)
        if options["encoding"] is not Encoding.UTF8:
            assert line.isascii()


@settings(deadline=None)
@given(st.lists(TEXTS.filter(bool), max_size=5), OPTIONS)
def test_a_list_is_read_as_the_list_that_it_was(
    entries: list[str], options: dict[str, Any]
) -> None:
    sent = text(entries, **options)
    if not sent:
        return
    if options["encoding"] is Encoding.RFC8187:
        sent = unquote(sent.removeprefix("UTF-8''"))
    if options["separator"] == JSON_LIST:
        assert json.loads(sent) == entries
        return
    read = sent.split(options["separator"])
    if options["encoding"] is Encoding.PERCENT:
        read = [unquote(one) for one in read]
    assert read == entries
