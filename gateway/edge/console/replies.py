"""Answers of the console that are no pages."""

from __future__ import annotations

from aiohttp import web

from gateway.edge.replies.problems import OWN_HEADERS


def redirect(location: str, *cookies: str) -> web.Response:
    """303: by GET to another address (RFC 9110 section 15.4.4)."""
    response = web.Response(status=303, headers={**OWN_HEADERS, "Location": location})
    for cookie in cookies:
        response.headers.add("Set-Cookie", cookie)
    return response
