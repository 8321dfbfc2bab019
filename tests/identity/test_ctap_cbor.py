"""The form of CBOR that authenticators write."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.factors.ctap_cbor import is_authenticator_data, is_one_item
from tests.authenticator import ATTESTED, EXTENSIONS, shared_references

FLAT = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary() | st.text()
VALUES: st.SearchStrategy[Any] = st.recursive(
    FLAT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 1


@given(VALUES)
def test_what_has_no_tag_and_few_levels_is_one_item(value: Any) -> None:
    raw = cbor2.dumps(value)
    assert is_one_item(raw) == (depth(value) <= 8)
    assert not is_one_item(raw + b"\x00")
    assert not is_one_item(raw[:-1])


@given(st.binary(max_size=64))
def test_what_is_one_item_is_read_to_its_end_by_a_reader_of_cbor(raw: bytes) -> None:
    if is_one_item(raw):
        assert not ends_early(raw)
        assert ends_early(raw[:-1])


def ends_early(raw: bytes) -> bool:
    try:
        cbor2.loads(raw)
    except cbor2.CBORDecodeEOF:
        return True
    except cbor2.CBORDecodeError:  # such as text that is no UTF-8
        return False
    return False


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x9f\x01\xff",  # an open length
        b"\x1c",  # reserved
        b"\xc1\x01",  # a tag
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",  # more entries than there are bytes
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x81" * 100_000,  # many levels
        b"\x99\x07\xd0" + b"\x00" * 2_000,  # many items
        shared_references(60),
    ],
    ids=lambda raw: raw[:6].hex(),
)
def test_what_an_authenticator_does_not_write_is_none(raw: bytes) -> None:
    assert not is_one_item(raw)


def data(flags: int, rest: bytes = b"") -> bytes:
    return bytes(32) + bytes([flags]) + bytes(4) + rest


def test_authenticator_data_is_what_its_flags_announce() -> None:
    credential = bytes(16) + b"\x00\x02id" + cbor2.dumps({1: 2})
    extensions = cbor2.dumps({"credProtect": 2})
    assert is_authenticator_data(data(0))
    assert is_authenticator_data(data(ATTESTED, credential))
    assert is_authenticator_data(data(EXTENSIONS, extensions))
    assert is_authenticator_data(data(ATTESTED | EXTENSIONS, credential + extensions))
    for wrong in (
        b"",
        data(0)[:-1],
        data(0, b"\x00"),
        data(ATTESTED),
        data(EXTENSIONS),
        data(ATTESTED | EXTENSIONS, credential),
        data(ATTESTED, bytes(16) + b"\xff\xffid" + cbor2.dumps({1: 2})),
        data(EXTENSIONS, shared_references(3)),
    ):
        assert not is_authenticator_data(wrong)
