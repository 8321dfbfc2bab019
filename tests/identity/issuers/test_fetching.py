"""What a fetch costs at most, and whom it trusts: real servers, some of them ill."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict

from gateway.identity.issuers.fetching import (
    AddressResolver,
    AnswerTooLong,
    FetchedDocument,
    Fetcher,
    FetchFailed,
    fresh_s,
    sent_at,
    told,
)
from tests.certificates import self_signed

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Serve = Callable[..., Awaitable[int]]
KIB = 1024


async def loopback(host: str, port: int) -> list[str]:
    del port
    if host == "nowhere.example":
        raise OSError("no such name")
    return ["127.0.0.1"]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server that answers so, on a port that it returns."""
    runners: list[web.ServerRunner] = []

    async def start(answer: Answer, tls: ssl.SSLContext | None = None) -> int:
        runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        return int(runner.addresses[0][1])

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def fetcher() -> Fetcher:
    return Fetcher(loopback)


def always(body: bytes, **fields: str) -> Answer:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        del request
        return web.Response(body=body, headers=headers)

    return answer


async def failure(fetcher: Fetcher, url: str, ca: str | None = None) -> str:
    with pytest.raises(FetchFailed) as told:
        await fetcher.get(url, ca, KIB)
    return str(told.value)


async def test_a_document_comes_as_it_is(serve: Serve, fetcher: Fetcher) -> None:
    port = await serve(always(b"{}", Cache_Control="public, max-age=600"))
    got = await fetcher.get(f"http://localhost:{port}/keys", None, KIB)
    assert (got.body, got.fresh_s) == (b"{}", 600.0)


async def test_nothing_of_us_is_told(serve: Serve, fetcher: Fetcher) -> None:
    seen: dict[str, str] = {}

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.update(request.headers)
        return web.Response(body=b"{}", headers={"Set-Cookie": "a=b"})

    port = await serve(answer)
    for _ in range(2):
        await fetcher.get(f"http://localhost:{port}/keys", None, KIB)
    assert seen.keys() == {"Host", "Accept", "Accept-Encoding", "User-Agent", "Connection"}
    assert (seen["Accept-Encoding"], seen["User-Agent"]) == ("identity", "authgate")


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 401, 404, 500])
async def test_only_200_is_an_answer_and_no_redirect_is_followed(
    serve: Serve, fetcher: Fetcher, status: int
) -> None:
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    url = f"http://localhost:{await serve(answer)}/keys"
    assert await failure(fetcher, url) == f"{url} answered {status}"
    assert asked == ["/keys"]


async def test_a_body_is_read_to_its_limit(serve: Serve, fetcher: Fetcher) -> None:
    port = await serve(always(b"x" * KIB))
    assert len((await fetcher.get(f"http://localhost:{port}/", None, KIB)).body) == KIB
    url = f"http://localhost:{await serve(always(b'x' * (KIB + 1)))}/"
    assert await failure(fetcher, url) == f"{url} answered more than 1 KiB"


async def test_a_body_without_end_is_not_read_to_its_end(serve: Serve, fetcher: Fetcher) -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * KIB)

    url = f"http://localhost:{await serve(endless)}/"
    with pytest.raises(AnswerTooLong) as told:
        await fetcher.get(url, None, KIB)
    assert str(told.value) == f"{url} answered more than 1 KiB"


async def test_an_encoding_that_nobody_asked_for_is_not_unpacked(
    serve: Serve, fetcher: Fetcher
) -> None:
    url = f"http://localhost:{await serve(always(b'x', Content_Encoding='gzip'))}/"
    told = f"{url} answered in an encoding that nobody asked for"
    assert await failure(fetcher, url) == told
    port = await serve(always(b"{}", Content_Encoding="Identity"))
    assert (await fetcher.get(f"http://localhost:{port}/", None, KIB)).body == b"{}"


async def test_an_encoding_in_a_later_line_is_refused_too(serve: Serve, fetcher: Fetcher) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        del request
        lines = CIMultiDict([("Content-Encoding", "identity"), ("Content-Encoding", "gzip")])
        return web.Response(body=b"x", headers=lines)

    url = f"http://localhost:{await serve(answer)}/"
    told = f"{url} answered in an encoding that nobody asked for"
    assert await failure(fetcher, url) == told


async def test_a_server_that_says_nothing_costs_so_much_time(serve: Serve) -> None:
    async def hanging(request: web.BaseRequest) -> web.StreamResponse:
        del request
        await asyncio.Event().wait()
        return web.Response()

    async def dripping(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    fetcher = Fetcher(loopback, timeout_s=0.2)
    for answer in (hanging, dripping):
        url = f"http://localhost:{await serve(answer)}/"
        assert await failure(fetcher, url) == f"{url} did not answer within 0.2 s"


async def test_a_name_that_resolves_to_nothing_soon_costs_no_more() -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return [host, str(port)]

    url = "http://localhost:1/"
    assert "did not answer" in await failure(Fetcher(never, timeout_s=0.1), url)


async def test_a_server_that_is_not_there_is_told(fetcher: Fetcher) -> None:
    url = "http://127.0.0.1:1/"
    assert await failure(fetcher, url) == f"{url} could not be fetched: connection refused"


@pytest.mark.parametrize(
    "url", ["http://id.example.com/", "file:///etc/passwd", "https://a@b/", ""]
)
async def test_what_is_no_https_url_is_not_asked(fetcher: Fetcher, url: str) -> None:
    assert await failure(fetcher, url) == f"{url} is no https URL"


async def test_of_a_long_text_that_is_no_url_the_beginning_is_told(fetcher: Fetcher) -> None:
    assert await failure(fetcher, "x" * 201) == f"{'x' * 200} is no https URL"


async def test_a_host_that_nobody_knows_is_told(fetcher: Fetcher) -> None:
    url = "https://nowhere.example/"
    told = f"{url} could not be fetched: nobody knows the name of its host"
    assert await failure(fetcher, url) == told


async def test_what_is_no_http_is_told(fetcher: Fetcher) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        url = f"http://localhost:{server.sockets[0].getsockname()[1]}/"
        told = f"{url} could not be fetched: what it answers is not HTTP"
        assert await failure(fetcher, url) == told


async def test_a_host_is_asked_at_any_address_that_its_name_leads_to(serve: Serve) -> None:
    asked: list[tuple[str, int]] = []

    async def addresses(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["::1", "127.0.0.1"]

    port = await serve(always(b"{}"))
    got = await Fetcher(addresses).get(f"http://localhost:{port}/", None, KIB)
    assert (got.body, asked) == (b"{}", [("localhost", port)])


async def test_addresses_are_taken_as_they_are() -> None:
    async def addresses(host: str, port: int) -> list[str]:
        return [f"{len(host)}.0.0.{port}", "2001:db8::1"]

    found = await AddressResolver(addresses).resolve("id", 9)
    kinds = {"proto": socket.IPPROTO_TCP, "flags": socket.AI_NUMERICHOST}
    named = {"hostname": "id", "port": 9, **kinds}
    assert found == [
        {"host": "2.0.0.9", "family": socket.AF_INET, **named},
        {"host": "2001:db8::1", "family": socket.AF_INET6, **named},
    ]


async def test_no_proxy_of_the_environment_is_asked(
    serve: Serve, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    port = await serve(always(b"{}"))
    assert (await fetcher.get(f"http://localhost:{port}/", None, KIB)).body == b"{}"


# TLS


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """A server's context, and the file of the authority behind it: for id.example alone."""
    paths = self_signed("id.example").write(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*paths)
    return context, str(paths[0])


async def test_a_server_is_believed_by_the_configured_authority(
    serve: Serve, fetcher: Fetcher, certificate: tuple[ssl.SSLContext, str]
) -> None:
    port = await serve(always(b"{}"), certificate[0])
    url = f"https://id.example:{port}/"
    assert (await fetcher.get(url, certificate[1], KIB)).body == b"{}"


async def test_a_server_that_nobody_vouches_for_is_not_believed(
    serve: Serve, fetcher: Fetcher, certificate: tuple[ssl.SSLContext, str]
) -> None:
    port = await serve(always(b"{}"), certificate[0])
    url = f"https://id.example:{port}/"
    assert await failure(fetcher, url) == (
        f"{url} could not be fetched: nobody we trust vouches for its certificate"
        " (self-signed certificate)"
    )


async def test_a_certificate_of_another_name_is_not_believed(
    serve: Serve, fetcher: Fetcher, certificate: tuple[ssl.SSLContext, str]
) -> None:
    url = f"https://other.example:{await serve(always(b'{}'), certificate[0])}/"
    said = await failure(fetcher, url, certificate[1])
    assert "vouches for its certificate (Hostname mismatch" in said


async def test_a_file_of_authorities_that_is_none_is_told(fetcher: Fetcher, tmp_path: Path) -> None:
    url = "https://id.example/"
    (tmp_path / "empty").write_text("")
    for ca, why in (("none", "no such file or directory"), ("empty", "the connection failed")):
        path = str(tmp_path / ca)
        said = await failure(fetcher, url, path)
        assert said == f"{path} holds no authorities that can be read: {why}"


async def test_over_plain_http_no_authorities_are_read(serve: Serve, fetcher: Fetcher) -> None:
    port = await serve(always(b"{}"))
    assert (await fetcher.get(f"http://localhost:{port}/", "none", KIB)).body == b"{}"


def test_an_error_of_a_certificate_that_says_no_more_is_told() -> None:
    of_no_connection: Any = None
    error = aiohttp.ClientConnectorCertificateError(of_no_connection, ssl.SSLError(1, "x"))
    assert told(error) == "nobody we trust vouches for its certificate (unknown)"


async def test_a_server_that_speaks_no_tls_is_told(serve: Serve, fetcher: Fetcher) -> None:
    url = f"https://localhost:{await serve(always(b'{}'))}/"
    told = f"{url} could not be fetched: it speaks no TLS that we speak"
    assert await failure(fetcher, url) == told


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (aiohttp.ServerDisconnectedError("x"), "it hung up before it answered"),
        (aiohttp.ClientPayloadError("x"), "it hung up in the midst of its answer"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "connection reset by peer"),
        (ssl.SSLError(1, "x"), "the connection failed"),
        (OSError("x"), "the connection failed"),
        (ValueError("x"), "the connection failed"),
    ],
)
def test_what_failed_is_told_in_our_words(error: Exception, said: str) -> None:
    assert told(error) == said


# For how long


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 300),
        ({"Cache-Control": "max-age=3600"}, 3600),
        ({"Cache-Control": 'public,MAX-AGE = "3600", must-revalidate'}, 3600),
        ({"Cache-Control": "max-age=0"}, 300),
        ({"Cache-Control": "max-age=299"}, 300),
        ({"Cache-Control": "max-age=86401"}, 86400),
        ({"Cache-Control": "max-age=9999999999"}, 86400),
        ({"Cache-Control": "max-age=99999999999999"}, 300),
        ({"Cache-Control": "max-age=-1"}, 300),
        ({"Cache-Control": "max-age=x"}, 300),
        ({"Cache-Control": "s-maxage=3600"}, 300),
        ({"Cache-Control": "no-cache, max-age=3600"}, 300),
        ({"Cache-Control": "max-age=3600, no-store"}, 300),
        ({"Cache-Control": "max-age=3600", "Age": "600"}, 3000),
        ({"Cache-Control": "max-age=3600", "Age": "3600"}, 300),
        ({"Cache-Control": "max-age=3600", "Age": "x"}, 3600),
        ({"Cache-Control": "max-age=3600", "Age": "12345678901"}, 3600),
        ({"Cache-Control": "max-age=301"}, 301),
        ({"Cache-Control": "max-age=86399"}, 86399),
    ],
)
def test_an_answer_is_kept_as_long_as_it_says_within_bounds(
    fields: dict[str, str], seconds: float
) -> None:
    assert fresh_s(CIMultiDict(fields)) == seconds


def test_every_line_says_for_how_long_an_answer_is_kept() -> None:
    kept = ("Cache-Control", "max-age=3600")
    assert fresh_s(CIMultiDict([kept, ("Cache-Control", "no-store")])) == 300
    assert fresh_s(CIMultiDict([("Cache-Control", "public"), kept])) == 3600


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"Date": "Fri, 15 Jan 2027 08:00:07 GMT"}, 1_800_000_007.0),
        ({"Date": "Fri, 15 Jan 2027 09:00:07 +0100"}, 1_800_000_007.0),
        ({"Date": "Fri, 15 Jan 2027 08:00:07 GMT", "Age": "0"}, None),
        ({"Date": "Fri, 15 Jan 2027 08:00:07 -0000"}, None),
        ({"Date": "tomorrow"}, None),
        ({}, None),
    ],
)
def test_the_time_of_an_answer_is_what_its_server_says(
    fields: dict[str, str], seconds: float | None
) -> None:
    assert sent_at(fields) == seconds


async def test_a_document_has_the_time_of_its_answer(serve: Serve, fetcher: Fetcher) -> None:
    port = await serve(always(b"{}", Date="Fri, 15 Jan 2027 08:00:07 GMT"))
    got = await fetcher.get(f"http://localhost:{port}/", None, KIB)
    assert got == FetchedDocument(b"{}", 300.0, 1_800_000_007.0)
