from __future__ import annotations

import pytest

from gateway.access.definitions import Cors
from gateway.edge.proxy.cors import CrossOrigin, is_preflight
from gateway.model import Call
from tests.cpu_cost import awaited_cost_ratio

APP = "https://app.example.com"
CORS = Cors("app", frozenset({APP}), True, ("GET", "POST"), ("content-type",), ("x-total",))


def call(method: str = "GET", **fields: str) -> Call:
    headers = tuple((k.replace("_", "-").encode(), v.encode()) for k, v in fields.items())
    return Call(
        method, "a", "/x", ("x",), "", headers=headers, client_ip="127.0.0.1", scheme="http"
    )


def preflight(origin: str = APP, method: str = "POST", headers: str = "") -> Call:
    more = {"access_control_request_headers": headers} if headers else {}
    return call("OPTIONS", origin=origin, access_control_request_method=method, **more)


async def test_a_listed_origin_gets_what_its_block_allows() -> None:
    fields = await CrossOrigin().preflight(preflight(headers="Content-Type"), CORS, ())
    assert fields is not None
    assert fields["Access-Control-Allow-Origin"] == APP
    assert fields["Access-Control-Allow-Credentials"] == "true"
    assert fields["Access-Control-Allow-Methods"] == "GET, POST"
    assert fields["Access-Control-Allow-Headers"].lower() == "content-type"
    assert fields["Access-Control-Max-Age"] == "600"
    assert fields["Vary"].startswith("Origin")


@pytest.mark.parametrize(
    "refused",
    [
        preflight(origin="https://evil.example"),
        preflight(origin="null"),
        preflight(origin=APP + ".evil.example"),
        preflight(method="DELETE"),
        preflight(headers="x-secret"),
        preflight(headers="content-type, x-secret"),
    ],
)
async def test_what_the_block_does_not_list_is_refused(refused: Call) -> None:
    assert await CrossOrigin().preflight(refused, CORS, ()) is None


async def test_names_that_no_page_asks_for_are_refused_unread() -> None:
    """135 such preflights a second, to which anybody may write an origin, once took a core."""
    names = "content-type" + "," * 15_900
    assert await CrossOrigin().preflight(preflight(headers=names[:2_048]), CORS, ()) is not None
    assert await CrossOrigin().preflight(preflight(headers=names[:2_049]), CORS, ()) is None
    many, asked = preflight(headers=names), CrossOrigin()
    ratio = await awaited_cost_ratio(
        lambda: asked.preflight(many, CORS, ()), lambda: names.split(",")
    )
    assert ratio < 1


@pytest.mark.parametrize("method", ["\xe9", "a b", "", "GET, POST", "<b>"])
async def test_what_is_no_method_does_not_come_back(method: str) -> None:
    any_method = Cors("open", frozenset({APP}), True)
    assert await CrossOrigin().preflight(preflight(method=method), any_method, ()) is None
    fields = await CrossOrigin().preflight(preflight(method="PURGE"), any_method, ())
    assert fields is not None
    assert fields["Access-Control-Allow-Methods"] == "PURGE"


async def test_the_methods_of_the_route_bound_those_of_the_block() -> None:
    assert await CrossOrigin().preflight(preflight(method="POST"), CORS, ("GET", "HEAD")) is None


async def test_an_answer_to_a_listed_origin_can_be_read_there() -> None:
    fields = await CrossOrigin().fields(call(origin=APP), CORS)
    assert fields["Access-Control-Allow-Origin"] == APP
    assert fields["Access-Control-Allow-Credentials"] == "true"
    assert fields["Access-Control-Expose-Headers"] == "x-total"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "HTTPS://APP.EXAMPLE.COM", ""])
async def test_an_unknown_origin_is_never_reflected(origin: str) -> None:
    fields = await CrossOrigin().fields(call(origin=origin), CORS)
    assert fields == {"Vary": "Origin"}


async def test_an_answer_without_origin_still_varies() -> None:
    assert await CrossOrigin().fields(call(), CORS) == {"Vary": "Origin"}


async def test_a_block_for_everybody_says_so_and_never_with_credentials() -> None:
    everybody = Cors("open", frozenset({"*"}), False, ("GET",))
    fields = await CrossOrigin().fields(call(origin="https://x.example"), everybody)
    assert fields["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in fields


def test_a_plain_options_is_no_preflight() -> None:
    assert not is_preflight(call("OPTIONS", origin=APP))
    assert not is_preflight(call("GET", origin=APP, access_control_request_method="GET"))
    assert is_preflight(preflight())
