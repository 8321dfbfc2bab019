"""Field lines of ours, and the `Date` among them."""

from __future__ import annotations

import pytest
import time_machine

from gateway.edge.http1.date_header import date_line
from gateway.edge.http1.field_lines import field_line, quoted
from gateway.edge.http1.grammar import value_of
from gateway.edge.http1.response_head import ResponseHeadReader


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (b"x-y_1", b"x-y_1"),
        (b"", b'""'),
        (b"a b", b'"a b"'),
        (b'a"b', b'"a\\"b"'),
        (b"a\\b", b'"a\\\\b"'),
        (b'\\"', b'"\\\\\\""'),
    ],
)
def test_what_is_no_token_is_quoted_and_escaped(text: bytes, written: bytes) -> None:
    assert quoted(text) == written


def test_a_field_is_its_name_and_its_value_in_latin_1() -> None:
    assert field_line("X-A", "caf\xe9 \t.") == b"X-A: caf\xe9 \t."


@pytest.mark.parametrize(("name", "value"), [("X A", "b"), ("", "b"), ("X", "a\r"), ("X", "a\0")])
def test_a_name_or_a_value_alone_is_enough_to_be_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        field_line(name, value)


def test_the_date_is_that_of_the_second_in_the_form_of_http() -> None:
    with time_machine.travel(784_111_777.9, tick=False) as clock:
        assert date_line() == b"Date: Sun, 06 Nov 1994 08:49:37 GMT"
        clock.shift(0.2)
        assert date_line() == b"Date: Sun, 06 Nov 1994 08:49:38 GMT"
        clock.shift(-3600)
        assert date_line() == b"Date: Sun, 06 Nov 1994 07:49:38 GMT"


def test_the_date_is_made_once_a_second() -> None:
    with time_machine.travel(784_111_777.0, tick=False) as clock:
        made = date_line()
        clock.shift(0.9)
        assert date_line() is made


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"X: y", b"y"),
        (b"X:y:z", b"y:z"),
        (b"X:\t X y X \t", b"X y X"),
        (b"X:", b""),
    ],
)
def test_a_value_is_what_follows_the_first_colon(line: bytes, value: bytes) -> None:
    assert value_of(line) == value


def test_the_values_of_a_field_are_given_in_order() -> None:
    head = ResponseHeadReader().read(b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\na: 3")
    assert head.values(b"a") == [b"1", b"3"]
