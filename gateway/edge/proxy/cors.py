"""CORS where a route has `cors:`, and for `/auth` (Fetch standard, CORS protocol).

aiohttp-cors judges preflights and answers; it is given an application that serves nothing and
a router adapter that reads the route's block.  What it leaves out is added here: `Vary`, a
constant refusal instead of its echo, and the methods and headers that the block lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web
from aiohttp_cors import CorsConfig, ResourceOptions
from aiohttp_cors.abc import AbstractRouterAdapter
from multidict import CIMultiDict

from gateway.access.definitions import Cors
from gateway.access.field_names import TOKEN
from gateway.model import Call

VARY = "Origin"
_NAMES_BYTES = 2_048
"""Of `Access-Control-Request-Headers`: each name in it is looked at, and anybody may ask."""
_PREFLIGHT_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


class _CorsRequest:
    """The request as aiohttp-cors reads it: its fields, and the block that judges it."""

    __slots__ = ("cors", "headers", "methods", "preflight")

    def __init__(
        self, call: Call, cors: Cors, *, preflight: bool, methods: tuple[str, ...] = ()
    ) -> None:
        self.headers = CIMultiDict(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in call.headers
        )
        self.cors = cors
        self.preflight = preflight
        self.methods = methods


class _CorsResponse:
    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: CIMultiDict[str] = CIMultiDict()


class _BlockAdapter(AbstractRouterAdapter):
    """Every request brings its own block, so nothing is kept by route."""

    def __init__(self) -> None:
        self.preflight_handler: Any = None

    def add_preflight_handler(
        self, routing_entity: object, handler: Any, webview: bool = False
    ) -> None:
        self.preflight_handler = handler

    def is_preflight_request(self, request: Any) -> bool:
        return bool(request.preflight)

    def is_cors_enabled_on_request(self, request: Any) -> bool:
        return True

    def set_config_for_routing_entity(self, routing_entity: object, config: object) -> None:
        """Nothing to keep: see `_CorsRequest.cors`."""

    async def get_preflight_request_config(
        self, preflight_request: Any, origin: str, requested_method: str
    ) -> Mapping[str, ResourceOptions]:
        if requested_method not in preflight_request.methods:
            raise KeyError(requested_method)
        return _options(preflight_request.cors)

    def get_non_preflight_request_config(self, request: Any) -> Mapping[str, ResourceOptions]:
        return _options(request.cors)


class CrossOrigin:
    """Answers preflights and says what an answer on a route with `cors` carries."""

    def __init__(self) -> None:
        blocks = _BlockAdapter()
        app = web.Application()
        CorsConfig(app, router_adapter=blocks).add(None)
        app.freeze()
        self._preflight = blocks.preflight_handler
        self._prepare = app.on_response_prepare

    async def preflight(
        self, call: Call, cors: Cors, methods: tuple[str, ...]
    ) -> dict[str, str] | None:
        """The fields of the 204; None when the origin, method or a header is not allowed, and
        when what stands for the method is none, as it would come back as it came, or the names of
        headers are longer than any page's.

        `methods` are the route's; those that `cors` lists narrow them.
        """
        if not TOKEN.match(requested_method(call)) or _asks_for_many(call):
            return None
        allowed = tuple(m for m in cors.methods if not methods or m in methods) or methods
        request = _CorsRequest(call, cors, preflight=True, methods=allowed or _requested(call))
        try:
            response = await self._preflight(request)
        except web.HTTPForbidden:
            return None
        fields = {name: value for name, value in response.headers.items() if _is_cors(name)}
        if "*" in cors.origins:
            fields[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
        if allowed:
            fields[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = ", ".join(allowed)
        fields[hdrs.VARY] = _PREFLIGHT_VARY
        return fields

    async def fields(self, call: Call, cors: Cors) -> dict[str, str]:
        """What every answer on the route carries, errors included; always `Vary`."""
        response = _CorsResponse()
        await self._prepare.send(_CorsRequest(call, cors, preflight=False), response)  # type: ignore[arg-type]
        fields = dict(response.headers)
        if hdrs.ACCESS_CONTROL_ALLOW_ORIGIN in fields and "*" in cors.origins:
            fields[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
        fields[hdrs.VARY] = VARY
        return fields


def is_preflight(call: Call) -> bool:
    """Fetch standard: OPTIONS with `Origin` and `Access-Control-Request-Method`."""
    return call.method == hdrs.METH_OPTIONS and bool(_requested(call)) and _has(call, b"origin")


def requested_method(call: Call) -> str:
    """The method that a preflight asks for."""
    return _requested(call)[0]


def _requested(call: Call) -> tuple[str, ...]:
    for name, value in call.headers:
        if name.lower() == b"access-control-request-method":
            return (value.decode("latin-1"),)
    return ()


def _asks_for_many(call: Call) -> bool:
    wanted = b"access-control-request-headers"
    return any(len(value) > _NAMES_BYTES for name, value in call.headers if name.lower() == wanted)


def _has(call: Call, wanted: bytes) -> bool:
    return any(name.lower() == wanted for name, _ in call.headers)


def _options(cors: Cors) -> dict[str, ResourceOptions]:
    options = ResourceOptions(  # type: ignore[no-untyped-call]
        allow_credentials=cors.credentials,
        expose_headers=cors.expose,
        allow_headers=cors.headers,
        max_age=cors.max_age_s,
    )
    return dict.fromkeys(cors.origins, options)


def _is_cors(name: str) -> bool:
    return name.lower().startswith("access-control-")
