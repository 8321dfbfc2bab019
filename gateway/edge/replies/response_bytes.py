"""An answer of the gateway's own as it goes on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from gateway.edge.http1.date_header import date_line
from gateway.edge.http1.request_head import RequestHead

_PHRASES = {int(status): status.phrase for status in HTTPStatus}


def answer_bytes(
    status: int,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes,
    request: RequestHead,
    *,
    keep_alive: bool,
) -> bytes:
    """An answer to `request`, whole.

    HTTP/1.1 whatever the client speaks: RFC 9110 section 2.5 has a server send its own
    version.  A 1.0 client that asked to go on is told so, as it assumes the contrary.
    """
    connection = b"" if keep_alive else b"Connection: close\r\n"
    if keep_alive and not request.minor:
        connection = b"Connection: keep-alive\r\n"
    return response_bytes(status, headers, body, connection, to_head=request.method == "HEAD")


def response_bytes(
    status: int,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes,
    connection: bytes,
    *,
    to_head: bool,
) -> bytes:
    """The head and, unless it answers a HEAD, the body; `connection` is that line, or empty."""
    fields = headers.items() if isinstance(headers, Mapping) else headers
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in fields]
    if status != 204:  # RFC 9110 section 8.6: a 204 must not have one
        lines.append(f"Content-Length: {len(body)}\r\n")
    head = b"%b%b\r\n%b\r\n" % ("".join(lines).encode("latin-1"), date_line(), connection)
    return head if to_head else head + body
