"""JSON bodies: what two parsers could read in two ways is refused, and nothing is echoed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.endpoints.endpoint import FieldError, ProblemReply
from gateway.edge.endpoints.json_body import PAGE_FIELDS, Flag, Text, check, parse, read_fields
from gateway.model import Reason
from gateway.strict_json import DEEPEST, MOST_BYTES
from tests.cpu_cost import cost_ratio
from tests.edge.auth_house import PASSWORD, House, open_house, reason, request, told

MALFORMED = ProblemReply(Reason.BODY_MALFORMED)
FIELDS: dict[str, Text | Flag] = {
    "email": Text(longest=10),
    "transport": Text(required=False, words=("bearer",)),
    "all": Flag(),
}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b"{}{}",
        b"{} x",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"{a: 1}",
        b'{"a": 1, "a": 1}',
        b'{"b": {"a": 1, "\\u0061": 2}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": "\xff"}',
        b'{"a": "\xc0\x80"}',
        b'{"a": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\n"}',
        b'{"a": "\\x41"}',
        b'{"a": 0x10}',
        b'{"a": 01}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
        b'{"a":' * (DEEPEST + 1) + b"1" + b"}" * (DEEPEST + 1),
        b"[" * 60_000,
        b'{"a": "' + b"[" * 40 + b"\\",
    ],
)
def test_what_is_not_one_json_value_is_malformed(raw: bytes) -> None:
    assert parse(raw) == MALFORMED


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a": "' + b"[{" * 100 + b'"}', {"a": "[{" * 100}),
        (b'{"a": "\\"[\\\\"}', {"a": '"[\\'}),
        (b"[" * DEEPEST + b"]" * DEEPEST, None),
        (b' \t\r\n{"a": 1}\n', {"a": 1}),
    ],
)
def test_what_is_one_json_value_is_read(raw: bytes, value: object) -> None:
    result = parse(raw)
    assert not isinstance(result, ProblemReply)
    if value is not None:
        assert result == value


@given(st.binary(max_size=200))
def test_no_bytes_raise(raw: bytes) -> None:
    check(parse(raw), FIELDS)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=20,
    )
)
def test_what_json_writes_is_read_back(value: Any) -> None:
    result = parse(json.dumps(value).encode())
    assert result == value


@pytest.mark.parametrize("piece", [b'\\"', b'"', b"[", b"{", b'{"', b"\\", b'"a"'])
def test_no_body_of_64_kib_costs_more_than_some_loops(piece: bytes) -> None:
    raw = b'{"a": "' + piece * (65_000 // len(piece)) + b"\\"
    assert parse(raw) == MALFORMED
    assert cost_ratio(lambda: parse(raw)) < 60


@pytest.mark.parametrize(
    ("value", "errors"),
    [
        ([], [("", "must be a JSON object")]),
        ("x", [("", "must be a JSON object")]),
        (None, [("", "must be a JSON object")]),
        ({}, [("email", "is missing")]),
        ({"email": 1}, [("email", "must be text")]),
        ({"email": None}, [("email", "must be text")]),
        ({"email": ["x"]}, [("email", "must be text")]),
        ({"email": ""}, [("email", "must not be empty")]),
        ({"email": "x" * 11}, [("email", "must hold at most 10 characters")]),
        ({"email": "\ud800"}, [("email", "must be text that UTF-8 can hold")]),
        ({"email": "a\x00b"}, [("email", "must not hold the character NUL")]),
        ({"email": "x", "all": 1}, [("all", "must be true or false")]),
        ({"email": "x", "all": "true"}, [("all", "must be true or false")]),
        ({"email": "x", "transport": "cookie"}, [("transport", "must be bearer")]),
        (
            {"<script>": 1, "email": "x"},
            [("", "holds a field besides email, transport, all")],
        ),
        (
            {"Email": "x"},
            [("", "holds a field besides email, transport, all"), ("email", "is missing")],
        ),
    ],
)
def test_every_wrong_field_is_named_at_once(value: Any, errors: list[tuple[str, str]]) -> None:
    result = check(value, FIELDS)
    assert result == ProblemReply(
        Reason.BODY_INVALID, tuple(FieldError(*error) for error in errors)
    )


def test_a_right_body_gives_its_fields() -> None:
    body = {"email": "x", "all": True, "transport": "bearer"}
    assert check(body, FIELDS) == body
    assert check({"email": "x"}, FIELDS) == {"email": "x"}


# --- through a socket ---


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


POSTS = [
    "/auth/register",
    "/auth/login",
    "/auth/refresh",
    "/auth/logout",
]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("content", "status", "why"),
    [
        (b"{", 400, "body_malformed"),
        (b'{"email":"a@b.co","email":"c@d.co"}', 400, "body_malformed"),
        (b'{"email":"\xff"}', 400, "body_malformed"),
        (b"[" * 40 + b"]" * 40, 400, "body_malformed"),
        (b'{"email":NaN}', 400, "body_malformed"),
        (b"[]", 422, "body_invalid"),
        (b'"text"', 422, "body_invalid"),
        (b'{"admin":true}', 422, "body_invalid"),
        (b'{"email":"' + b"a" * MOST_BYTES + b'"}', 413, "body_too_large"),
    ],
)
async def test_every_endpoint_refuses_a_bad_body(
    house: House, path: str, content: bytes, status: int, why: str
) -> None:
    answer = await house.raw(request("POST", path, content))
    assert (answer.status, reason(answer)) == (status, why)
    assert answer.values("cache-control") == [b"no-store"]
    if why == "body_invalid":
        assert all(error.keys() == {"field", "problem"} for error in told(answer)["errors"])


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json-patch+json",
        "application/jsonx",
        "application/json; charset=latin-1",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json, text/plain",
        "application/json\r\nContent-Type: application/json",
        "application/json\r\nContent-Encoding: gzip",
        "application/json\r\nContent-Encoding: identity",
    ],
)
async def test_what_is_not_plain_json_is_415(house: House, media_type: str | None) -> None:
    content = b'{"email":"a@b.co","password":"x"}'
    answer = await house.raw(request("POST", "/auth/login", content, content_type=media_type))
    assert (answer.status, reason(answer)) == (415, "media_type_unsupported")


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON", "application/json;charset=UTF-8",
     'application/json ; charset="utf-8"'],
)  # fmt: skip
async def test_json_in_utf_8_is_taken_in_every_spelling(house: House, media_type: str) -> None:
    await house.register()
    content = json.dumps({"email": "alice@example.com", "password": PASSWORD}).encode()
    answer = await house.raw(request("POST", "/auth/login", content, content_type=media_type))
    assert answer.status == 200


async def test_an_empty_body_is_malformed_where_one_is_needed(house: House) -> None:
    lines = "POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    for framing in ("Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"):
        answer = await house.raw((lines + framing).encode())
        assert (answer.status, reason(answer)) == (400, "body_malformed")


async def test_a_body_without_a_length_is_counted_as_it_comes(house: House) -> None:
    head = (
        b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    answer = await house.raw(head + b"8000\r\n" + b" " * 0x8000 + b"\r\n8001\r\n" + b" " * 0x8001)
    assert (answer.status, reason(answer)) == (413, "body_too_large")
    assert answer.values("connection") == [b"close"]


async def test_chunks_that_are_none_are_400(house: House) -> None:
    head = (
        b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    answer = await house.raw(head + b'2\r\n{"\r\nzz\r\n')
    assert (answer.status, reason(answer)) == (400, "request_malformed")


@pytest.mark.parametrize("path", POSTS)
async def test_no_answer_echoes_what_came(house: House, path: str) -> None:
    marker = "zq<b>7x\u00e9"
    body = {"email": marker, "password": marker, "refresh_token": marker, marker: marker}
    content = json.dumps(body, ensure_ascii=False).encode()
    answer = await house.raw(request("POST", path, content))
    assert answer.status == 422
    for spelling in (marker.encode(), json.dumps(marker).encode(), b"zq"):
        assert spelling not in answer.head + answer.body


async def test_the_fields_of_a_page_stand_in_the_place_of_the_body_and_are_checked_alike() -> None:
    asked = make_mocked_request("POST", "/")
    asked[PAGE_FIELDS] = {"email": "a@b.c"}
    assert await read_fields(asked, FIELDS) == {"email": "a@b.c"}
    asked[PAGE_FIELDS] = {"email": "longer than ten"}
    refused = await read_fields(asked, FIELDS)
    assert refused == ProblemReply(
        Reason.BODY_INVALID, (FieldError("email", "must hold at most 10 characters"),)
    )
