"""What is answered before the installation is open: to programs a problem, to people a page."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.app.auth import LazyAuthApi
from gateway.edge.pages.assembly import PagesOptions, build_refusal_page
from gateway.model import Call


@pytest.mark.parametrize(
    ("path", "accept", "media_type"),
    [
        ("/auth/ui/sign-in", "text/html", "text/html; charset=utf-8"),
        ("/auth/ui/sign-in", "*/*", "application/problem+json"),
        ("/auth/login", "text/html", "application/problem+json"),
    ],
)
async def test_who_comes_too_early_is_told_in_their_way(
    path: str, accept: str, media_type: str
) -> None:
    counted: list[tuple[str, str, int, float]] = []
    api = LazyAuthApi(
        lambda *told: counted.append(told), build_refusal_page(PagesOptions("https://x.example"))
    )
    fields = [(b"Accept", accept.encode())]
    segments = tuple(path[1:].split("/"))
    call = Call(
        "GET",
        "x.example",
        path,
        segments,
        "",
        headers=fields,
        client_ip="192.0.2.1",
        scheme="https",
    )
    answer = await api.answer(make_mocked_request("GET", path), call)
    assert isinstance(answer, web.Response)
    assert answer.status == 503
    assert answer.headers["Content-Type"] == media_type
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Cache-Control"] == "no-store"
    assert counted == [("", "store_unavailable", 503, 0.0)]
