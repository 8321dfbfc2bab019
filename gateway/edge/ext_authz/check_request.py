"""A CheckRequest as Envoy sends it, read into the call that it asks about.

Law: each part is read as the public listener reads a request, and what that would refuse is
refused.  What is judged is what Envoy sends on: the fields come as they are where Envoy has
`encode_raw_headers`; else it joins the values of fields that came twice with a comma.

The client is the address that Envoy itself was called from; `X-Forwarded-For` is looked at only
where a trusted peer called it.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from gateway.edge.admin.dialects import (
    FieldReader,
    OriginalRequest,
    RawFields,
    Trusts,
    Unreadable,
    original_request,
)
from gateway.edge.ext_authz.messages import CheckRequest
from gateway.edge.http1.grammar import Malformed
from gateway.edge.http1.request_head import RequestHead, RequestHeadReader, RequestLine
from gateway.model import Reason

_HTTP = "attributes.request.http: "
_PARTIAL_BODY = b"x-envoy-auth-partial-body"
"""Written by Envoy beside a body (it takes a client's own away): `false` where it is whole."""
_PSEUDO = {b":method": "method", b":path": "path", b":authority": "host"}


@dataclass(slots=True)
class CheckedCall:
    """What was asked.  `original` meets `dialects.QuestionReader`."""

    head: RequestHead
    source: bytes
    """The address that called Envoy; empty where it is none (a socket of Unix)."""
    scheme: bytes
    body: bytes | None
    """None where Envoy does not show it, or not the whole of it as it came."""
    has_body: bool = False
    """Whether Envoy shows any of one: that of HTTP/2 need not be announced, and Envoy takes
    `Transfer-Encoding` away."""
    source_trusted: bool = False
    """Whether a trusted peer called Envoy: known once `original` was asked."""

    def original(
        self, head: RequestHead, trusts: Trusts, reader: FieldReader
    ) -> OriginalRequest | Unreadable:
        forwarded: dict[bytes, list[bytes]] = {}
        for name, value in head.forwarded or ():
            forwarded.setdefault(name.lower(), []).append(value)
        client_ip = reader.address(self.source)
        self.source_trusted = client_ip is None or trusts(client_ip)
        if self.source_trusted and (hops := forwarded.get(b"x-forwarded-for")):
            client_ip = reader.client_of(hops, trusts)
        if client_ip is None:
            return Unreadable("attributes.source or X-Forwarded-For must name the client.")
        # Envoy writes X-Forwarded-Proto itself, while a client of HTTP/2 may send any `:scheme`.
        schemes = forwarded.get(b"x-forwarded-proto", [self.scheme])
        return original_request(
            head,
            RawFields(
                head.method.encode("ascii"),
                head.target.encode("ascii"),
                head.host,
                schemes[0] if len(schemes) == 1 else None,
                client_ip,
                self.has_body,
            ),
            _HTTP,
            reader,
        )


def unread_head() -> RequestHead:
    """Stands for the head of what could not be read."""
    return RequestHead(RequestLine(b"", "", "", 1), [])


def read_check(message: bytes, reader: RequestHeadReader) -> CheckedCall | Unreadable | Reason:
    """The call in a message; a Reason for what is a request, and too large."""
    try:
        attributes = CheckRequest.FromString(message).attributes
    except DecodeError:
        return Unreadable("The message is no CheckRequest.")
    http = attributes.request.http
    if not http.method:
        return Unreadable("attributes.request.http must describe a request of HTTP.")
    limits = reader.limits
    if len(http.header_map.headers) + len(http.headers) > 2 * limits.fields:
        return Reason.HEADER_TOO_LARGE  # pseudo headers among them; `reader` counts the others
    body, has_body = None, False
    start = b"%b %b HTTP/1.1" % (http.method, http.path)
    lines = [start, b"Host: " + http.host]
    fields = [(field.key, field.raw_value or field.value) for field in http.header_map.headers]
    fields += [(field.key, field.value) for field in http.headers]
    for name, value in fields:
        if name.startswith(b":"):
            part = _PSEUDO.get(name)
            if part is not None and getattr(http, part) != value:
                # Text that is not UTF-8 stands there as something else than Envoy sends on.
                return Unreadable(f"{_HTTP}{part} must be what the headers say.")
        elif name == _PARTIAL_BODY:
            # `body` is not looked at: what is not UTF-8 in it is not what the backend is sent.
            has_body = True
            body = http.raw_body if value == b"false" and http.raw_body else None
        else:
            lines.append(name + b": " + value)
    block = b"\r\n".join(lines)
    if block.count(b"\r\n") != len(lines) - 1:
        return Unreadable("A header holds a control character.")
    if len(start) > limits.line_bytes:
        return Reason.TARGET_TOO_LONG
    if len(block) > limits.head_bytes:
        return Reason.HEADER_TOO_LARGE
    try:
        head = reader.read(block)
    except Malformed:
        return Unreadable(f"{_HTTP}what it holds must be a well-formed request.")
    if isinstance(head, Reason):
        return head
    source = attributes.source.address.socket_address.address
    return CheckedCall(head, source, http.scheme, body, has_body)
