"""What the library of a store raises, and what is let go of with it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.stores.protocols import StoreUnavailable
from gateway.stores.translation import Translated
from tests.stores.failed_calls import is_let_go


class Broken(Exception):
    """A library's own."""


def known(error: Exception) -> StoreUnavailable | None:
    return StoreUnavailable("sql", "broken") if isinstance(error, Broken) else None


TRANSLATED = Translated(known)


async def keeping_its_error() -> None:
    try:
        raise OSError
    except OSError as error:
        kept = error
    try:
        raise Broken from kept
    except Broken as error:
        kept_too = error
    raise kept_too


async def test_what_is_known_becomes_that_and_names_its_cause() -> None:
    with pytest.raises(StoreUnavailable, match="broken") as told, TRANSLATED:
        await keeping_its_error()
    assert isinstance(told.value.__cause__, Broken)


async def test_a_library_that_keeps_its_error_keeps_no_caller() -> None:
    async def call() -> None:
        with TRANSLATED:
            await keeping_its_error()

    assert await is_let_go(call)


async def test_a_library_whose_errors_lead_in_a_circle_is_left() -> None:
    def call() -> None:
        one, other = Broken(), Broken()
        one.__cause__, other.__cause__ = other, one
        raise one

    with pytest.raises(StoreUnavailable), TRANSLATED:
        call()


@pytest.mark.parametrize(
    "error", [ValueError(), StoreUnavailable("redis"), asyncio.CancelledError()]
)
def test_what_is_not_known_goes_on_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, TRANSLATED:
        raise error
    assert raised.value is error
    assert raised.traceback


def test_a_block_that_does_not_fail_goes_on() -> None:
    with TRANSLATED:
        done = True
    assert done
