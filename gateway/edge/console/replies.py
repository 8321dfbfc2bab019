"""Answers of the console that are no pages."""

from __future__ import annotations

from aiohttp import web

from gateway.access.console import HOME
from gateway.edge.console.pages import Attachment
from gateway.edge.replies.problems import OWN_HEADERS
from gateway.identity.sign_in.return_targets import own_path


def redirect(location: str, *cookies: str) -> web.Response:
    """303: by GET to another address (RFC 9110 section 15.4.4)."""
    response = web.Response(status=303, headers={**OWN_HEADERS, "Location": location})
    for cookie in cookies:
        response.headers.add("Set-Cookie", cookie)
    return response


def attached(attachment: Attachment) -> web.Response:
    """A file for the browser to keep; its name is ours."""
    headers = {
        **OWN_HEADERS,
        "Content-Type": attachment.media_type,
        "Content-Disposition": f'attachment; filename="{attachment.name}"',
    }
    return web.Response(body=attachment.content, headers=headers)


def console_path(return_to: str) -> str:
    """The path with its query, where it is one of the console; else its first page."""
    path = own_path(return_to)
    is_own = path == HOME or path.startswith((f"{HOME}/", f"{HOME}?"))
    return path if is_own else HOME
