"""What a peer of the listener does fills no log, and has no traceback; a defect is told as ever."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Iterator

import grpc.aio
import pytest

from tests.edge.admin.decision_house import House, opened
from tests.edge.ext_authz.asking import CHECK, Asked, Checked, ask


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Whatever other tests made gRPC say."""
    library = logging.getLogger("grpc")
    handlers, passes = library.handlers[:], library.propagate
    library.handlers[:], library.propagate = [], True
    yield
    library.handlers[:], library.propagate = handlers, passes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """Of HPACK, never indexed and without Huffman (RFC 7541 section 6.2.2)."""
    return b"\x00%c%b%c%b" % (len(name), name, len(value), value)


HEADERS = b"".join(
    literal(name, value)
    for name, value in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", CHECK.encode()),
        (b":authority", b"a"), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
    )
)  # fmt: skip
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
EMPTY_MESSAGE = b"\0" + bytes(4)


class Heard(logging.Handler):
    """What gRPC itself said, before anybody chose."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.records.append(record)


async def reset_behind_questions(house: House) -> None:
    """Calls that are asked whole, on a connection that is reset while they are answered."""
    host, _, port = house.grpc_address.partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    calls = (
        frame(1, 4, stream, HEADERS) + frame(0, 1, stream, EMPTY_MESSAGE)
        for stream in range(1, 201, 2)
    )
    writer.write(PREFACE + b"".join(calls))
    await writer.drain()
    # Some are being answered by then.
    assert Checked(await ask(house.grpc_address, Asked("/public/a").message())).allowed
    writer.transport.abort()


async def test_a_peer_that_resets_its_calls_is_told_of_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened() as house:
        await house.open_grpc()
        heard = Heard()
        logging.getLogger("grpc").addHandler(heard)
        async with asyncio.timeout(60):
            while len(heard.records) < 5:
                await reset_behind_questions(house)
    said_by_grpc = [one for one in caplog.records if one.name.startswith("grpc")]
    assert [one for one in said_by_grpc if one.exc_info] == []
    (told,) = [one for one in said_by_grpc if one.getMessage() == heard.records[0].getMessage()]
    assert told.levelno == logging.WARNING


def said(error: Exception, at: float) -> logging.LogRecord:
    facts = {"name": "grpc.any", "levelno": logging.ERROR, "levelname": "ERROR", "created": at}
    return logging.makeLogRecord({**facts, "msg": "raised", "exc_info": (type(error), error, None)})


async def test_it_is_told_of_again_after_a_while_and_a_defect_each_time_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened() as house:
        await house.open_grpc()
        library = logging.getLogger("grpc.any")
        ended = grpc.aio.InternalError("not sent")
        far = 1e11  # whatever was told before
        for at in (0, 1, 59, 61, 62):
            library.handle(said(ended, far + at))
        told = [one for one in caplog.records if one.name == "grpc.any"]
        assert [one.created - far for one in told] == [0, 61]
        caplog.clear()
        for _ in range(2):
            library.handle(said(ValueError("a defect"), far))
    told = [one for one in caplog.records if one.name == "grpc.any"]
    assert [one.exc_info is not None for one in told] == [True, True]
