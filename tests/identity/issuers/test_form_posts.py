"""Forms that are posted over kept connections: real servers, some of them ill."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from aiohttp import web

from gateway.identity.issuers import form_posts
from gateway.identity.issuers.fetching import FetchFailed
from gateway.identity.issuers.form_posts import FormPoster, PostRefused
from tests.certificates import self_signed
from tests.identity.issuers.test_fetching import KIB, Answer, Serve, always, loopback, serve

__all__ = ["serve"]


@pytest.fixture
async def poster() -> AsyncIterator[FormPoster]:
    made = FormPoster(loopback, None, timeout_s=30, at_once=4)
    yield made
    await made.close()


async def post(
    poster: FormPoster, url: str, form: Mapping[str, str] | None = None, **fields: str
) -> bytes:
    return await poster.post(url, form or {"token": "t"}, fields, KIB)


async def failure(poster: FormPoster, url: str) -> str:
    with pytest.raises(FetchFailed) as told:
        await post(poster, url)
    return str(told.value)


def noting(peers: list[str], forms: list[dict[str, str]]) -> Answer:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        peers.append(str(request.transport.get_extra_info("peername")))
        forms.append({**await request.post(), **request.headers})  # type: ignore[dict-item]
        return web.Response(body=b"{}", headers={"Set-Cookie": "a=b"})

    return answer


async def test_a_form_is_posted_over_one_connection(serve: Serve, poster: FormPoster) -> None:
    peers: list[str] = []
    forms: list[dict[str, str]] = []
    url = f"http://localhost:{await serve(noting(peers, forms))}/introspect"
    for _ in range(3):
        assert await post(poster, url, {"token": "a b&c"}, Authorization="Basic eDp5") == b"{}"
    assert len(set(peers)) == 1
    assert forms[2]["token"] == "a b&c"
    assert forms[2]["Authorization"] == "Basic eDp5"
    assert forms[2]["Content-Type"] == "application/x-www-form-urlencoded"
    assert "Cookie" not in forms[2]


async def test_a_connection_that_had_ended_is_replaced(serve: Serve, poster: FormPoster) -> None:
    connections = 0

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers once, and ends when it is asked again."""
        nonlocal connections
        connections += 1
        await reader.readuntil(b"token=t")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0)
    url = f"http://localhost:{server.sockets[0].getsockname()[1]}/"
    for _ in range(2):
        assert await post(poster, url) == b"{}"
    assert connections == 2
    server.close()


@pytest.mark.parametrize("status", [201, 204, 301, 307, 400, 401, 403, 429])
async def test_another_answer_than_200_is_a_refusal(
    serve: Serve, poster: FormPoster, status: int
) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        del request
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    url = f"http://localhost:{await serve(answer)}/"
    with pytest.raises(PostRefused) as told:
        await post(poster, url)
    assert str(told.value) == f"{url} answered {status}"


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_failure_of_the_server_is_none(
    serve: Serve, poster: FormPoster, status: int
) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        del request
        return web.Response(status=status)

    url = f"http://localhost:{await serve(answer)}/"
    with pytest.raises(FetchFailed) as told:
        await post(poster, url)
    assert str(told.value) == f"{url} answered {status}"
    assert not isinstance(told.value, PostRefused)


async def test_an_answer_is_bounded_in_bytes_and_in_time(serve: Serve, poster: FormPoster) -> None:
    for answer, why in (
        (always(b"x" * (KIB + 1)), "answered more than 1 KiB"),
        (always(b"x", Content_Encoding="gzip"), "answered in an encoding that nobody asked for"),
    ):
        url = f"http://localhost:{await serve(answer)}/"
        assert await failure(poster, url) == f"{url} {why}"
    url = f"http://localhost:{await serve(Held().answer)}/"
    impatient = FormPoster(loopback, None, timeout_s=0.2, at_once=4)
    assert await failure(impatient, url) == f"{url} did not answer within 0.2 s"
    await impatient.close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1/", "could not be asked: connection refused"),
        ("http://id.example.com/", "is no https URL"),
        ("https://nowhere.example/", "could not be asked: nobody knows the name of its host"),
    ],
)
async def test_a_server_that_is_not_there_is_told(poster: FormPoster, url: str, why: str) -> None:
    assert await failure(poster, url) == f"{url} {why}"


async def test_a_server_that_hangs_up_twice_is_told(serve: Serve, poster: FormPoster) -> None:
    asked: list[str] = []

    async def closing(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    url = f"http://localhost:{await serve(closing)}/"
    told = f"{url} could not be asked: it hung up before it answered"
    assert await failure(poster, url) == told
    assert asked == ["/", "/"]


class Held:
    """A server of which each answer waits until it may go on; it counts its connections."""

    def __init__(self) -> None:
        self.peers: set[str] = set()
        self.asked = asyncio.Semaphore(0)
        self.may_answer = asyncio.Semaphore(0)
        self.under_way = self.most = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        self.peers.add(str(request.transport.get_extra_info("peername")))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.asked.release()
        await self.may_answer.acquire()
        self.under_way -= 1
        return web.Response(body=b"{}")


async def test_so_many_are_asked_at_once_and_the_others_after_them(serve: Serve) -> None:
    held = Held()
    url = f"http://localhost:{await serve(held.answer)}/"
    poster = FormPoster(loopback, None, timeout_s=60, at_once=2)
    posts = [asyncio.create_task(post(poster, url)) for _ in range(5)]
    for _ in range(2):
        await held.asked.acquire()
    for _ in posts:
        held.may_answer.release()
    assert await asyncio.gather(*posts) == [b"{}"] * 5
    assert (held.most, len(held.peers)) == (2, 2)
    await poster.close()


async def test_no_more_connections_are_opened_than_may_be_asked_over(serve: Serve) -> None:
    held = Held()
    url = f"http://localhost:{await serve(held.answer)}/"
    poster = FormPoster(loopback, None, timeout_s=60, at_once=2)
    held.may_answer.release()
    await post(poster, url)  # from here on nobody waits before asking for a connection
    posts = [asyncio.create_task(post(poster, url)) for _ in range(5)]
    for _ in posts:
        held.may_answer.release()
    await asyncio.gather(*posts)
    assert len(held.peers) == 2
    await poster.close()


async def test_connections_are_not_made_anew_under_a_question(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form_posts, "ANEW_AFTER_S", 0.0)
    held = Held()
    url = f"http://localhost:{await serve(held.answer)}/"
    poster = FormPoster(loopback, None, timeout_s=60, at_once=4)
    first = asyncio.create_task(post(poster, url))
    await held.asked.acquire()
    second = asyncio.create_task(post(poster, url))
    await held.asked.acquire()
    held.may_answer.release()
    held.may_answer.release()
    assert [await first, await second] == [b"{}", b"{}"]
    old = set(held.peers)
    held.may_answer.release()
    assert await post(poster, url) == b"{}"
    assert len(held.peers - old) == 1
    await poster.close()


async def test_whoever_is_closed_can_ask_again(serve: Serve, poster: FormPoster) -> None:
    peers: list[str] = []
    url = f"http://localhost:{await serve(noting(peers, []))}/"
    for _ in range(2):
        assert await post(poster, url) == b"{}"
        await poster.close()
        await poster.close()
    assert len(set(peers)) == 2


async def test_a_new_file_of_authorities_holds_once_the_connections_are_an_hour_old(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = self_signed("id.example").write(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*paths)
    url = f"https://id.example:{await serve(always(b'{}'), context)}/"
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(self_signed("id.example").certificate)
    poster = FormPoster(loopback, str(trusted), timeout_s=30, at_once=4)
    with pytest.raises(FetchFailed, match="nobody we trust vouches"):
        await post(poster, url)
    trusted.write_bytes(paths[0].read_bytes())
    with pytest.raises(FetchFailed):
        await post(poster, url)
    monkeypatch.setattr(form_posts, "ANEW_AFTER_S", 0.0)
    assert await post(poster, url) == b"{}"
    await poster.close()
