"""A request as aiohttp's handlers know it, for the endpoints that are written as such."""

from __future__ import annotations

import re

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion10, HttpVersion11
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.edge.http1.request_head import RequestHead
from gateway.edge.server.request_parser import Refused
from gateway.model import Reason

REQUEST_ID = web.RequestKey("request_id", str)
"""Where the public door leaves the id of the request for whoever answers it."""

_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def message_of(head: RequestHead) -> RawRequestMessage:
    """The request as aiohttp's handlers know it, its target in origin-form."""
    target = _AUTHORITY.sub("", head.target, count=1) if head.target[0] != "/" else head.target
    path, mark, query = target.partition("?")
    raw = tuple(head)
    named = CIMultiDict((n.decode("latin-1"), v.decode("latin-1")) for n, v in raw)
    try:
        url = URL.build(path=path or "/", query_string=query, encoded=True)
    except ValueError as error:
        raise Refused(Reason.REQUEST_MALFORMED) from error
    return RawRequestMessage(
        head.method,
        (path or "/") + mark + query,
        HttpVersion11 if head.minor else HttpVersion10,
        CIMultiDictProxy(named),
        raw,
        not head.keeps_open,
        None,
        False,
        head.chunked,
        url,
    )


class _Written(web.StreamResponse):
    """What aiohttp is given where the answer is on the wire already."""

    def __init__(self) -> None:
        self._keep_alive = False
        self._eof_sent = True

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


WRITTEN = _Written()
