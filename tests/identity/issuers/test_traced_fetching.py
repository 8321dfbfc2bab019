"""What a trace tells of another server that was asked for a call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aiohttp import web

from gateway.call_trace import CallTrace, ChildSpan, current_call
from gateway.identity.issuers.fetching import FetchFailed
from gateway.identity.issuers.traced_fetching import (
    TracedFetcher,
    TracedFormPoster,
    request_span,
)
from tests.identity.issuers.test_fetching import KIB, Serve, always, loopback, serve

__all__ = ["serve"]


@pytest.fixture
def trace() -> Iterator[CallTrace]:
    trace = CallTrace("1" * 32, "2" * 16, "", sampled=True)
    reset = current_call.set(trace)
    yield trace
    current_call.reset(reset)


def only(trace: CallTrace) -> ChildSpan:
    [child] = trace.children
    assert child.ended_at
    assert child.is_client
    return child


async def test_a_fetch_is_a_span_of_the_call_that_waits_for_it(
    serve: Serve, trace: CallTrace
) -> None:
    url = f"http://localhost:{await serve(always(b'{}', Cache_Control='max-age=600'))}/keys"
    got = await TracedFetcher(loopback).get(f"{url}?a=b", None, KIB)
    assert (got.body, got.fresh_s) == (b"{}", 600.0)
    child = only(trace)
    assert (child.name, child.error) == ("GET", "")
    assert child.attributes == {
        "http.request.method": "GET",
        "server.address": "localhost",
        "url.full": url,
    }


async def test_a_fetch_is_given_the_authorities_and_the_bound(trace: CallTrace) -> None:
    with pytest.raises(FetchFailed, match=r"^none holds no authorities"):
        await TracedFetcher(loopback).get("https://id.example/", "none", KIB)
    assert only(trace).error == "FetchFailed"


async def test_a_fetch_is_bounded(serve: Serve, trace: CallTrace) -> None:
    url = f"http://localhost:{await serve(always(b'x' * (KIB + 1)))}/"
    with pytest.raises(FetchFailed, match="more than 1 KiB"):
        await TracedFetcher(loopback).get(url, None, KIB)
    assert only(trace).error == "AnswerTooLong"


async def test_a_form_is_a_span_of_the_call_that_waits_for_it(
    serve: Serve, trace: CallTrace
) -> None:
    seen: list[tuple[str, str]] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((await request.text(), request.headers["X-Of"]))
        return web.Response(body=b"x" * (KIB if len(seen) == 1 else KIB + 1))

    url = f"http://localhost:{await serve(answer)}/introspect"
    poster = TracedFormPoster(loopback, None, timeout_s=10, at_once=1)
    assert await poster.post(url, {"token": "t"}, {"X-Of": "us"}, KIB) == b"x" * KIB
    assert seen == [("token=t", "us")]
    child = only(trace)
    assert (child.name, child.error) == ("POST", "")
    assert child.attributes == {
        "http.request.method": "POST",
        "server.address": "localhost",
        "url.full": url,
    }
    with pytest.raises(FetchFailed):
        await poster.post(url, {"token": "t"}, {"X-Of": "us"}, KIB)
    assert [one.error for one in trace.children] == ["", "AnswerTooLong"]
    await poster.close()


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("https://a:b@id.example:8443/x?q#f", "id.example", "https://id.example:8443/x"),
        ("https://a@b@id.example/", "id.example", "https://id.example/"),
        ("/keys", "", ":///keys"),
    ],
)
def test_of_an_address_the_server_and_the_path_are_told(
    trace: CallTrace, url: str, address: str, shown: str
) -> None:
    with request_span("GET", url):
        pass
    attributes = only(trace).attributes
    assert (attributes["server.address"], attributes["url.full"]) == (address, shown)
