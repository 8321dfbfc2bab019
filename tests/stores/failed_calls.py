"""What a call that failed has held: let go with it, or kept until garbage is collected."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable

import pytest

from gateway.stores.protocols import StoreUnavailable


class _Request:
    """What a caller holds while it waits for a store."""


async def is_let_go(call: Callable[[], Awaitable[object]]) -> bool:
    """Whether the request for which this call fails is gone when the failure has been told."""
    gc.collect()
    gc.disable()
    try:
        return (await _failed(call))() is None
    finally:
        gc.enable()


async def _failed(call: Callable[[], Awaitable[object]]) -> weakref.ref[_Request]:
    request = _Request()
    try:
        await call()
    except StoreUnavailable:
        return weakref.ref(request)
    pytest.fail("the call did not fail")
