"""`direct_response` and `redirect`: the whole answer of a route that has no upstream.

Law: an answer is written in the configuration to the last byte.  The one thing of a call that
can come back is its query, behind a target that the configuration chose, so no call can choose
where it is led.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.access.definitions import DirectResponse
from gateway.access.routing.paths import canonical
from gateway.config.headers import read_answer_fields
from gateway.config.yaml_reader import Node, Reader
from gateway.model import Reason

DIRECT_RESPONSE_KEYS = ("status", "headers", "body", "content_type")
REDIRECT_KEYS = ("to", "status", "keep_query")

_REDIRECTS = (301, 302, 303, 307, 308)
_BODY_MAX_BYTES = 65_536
_TEXT = "text/plain; charset=utf-8"
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(?: *; *[!-~ ]+)?\Z")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?\Z"
)
# What speaks of the way to an upstream.
_IDLE = (
    "upstream",
    "rewrite",
    "request",
    "response",
    "forward_authorization",
    "max_body",
    "keep_headers",
    "identity_headers",
)


def read_direct_response(reader: Reader, fields: Mapping[str, Node]) -> DirectResponse | None:
    """The answer of the route itself; None where it has an upstream."""
    given = [key for key in ("direct_response", "redirect") if key in fields]
    if not given:
        return None
    key = given[0]
    if len(given) > 1:
        reader.error(
            reader.name_of(fields[given[1]]), "a route has `direct_response` or `redirect`"
        )
    for idle in _IDLE:
        if idle in fields:
            reader.error(
                reader.name_of(fields[idle]),
                f"`{idle}` says nothing beside `{key}`: the route answers by itself",
            )
    if key == "direct_response":
        return _direct_response(reader, fields[key])
    return _redirect(reader, fields[key], getattr(fields.get("match"), "value", ()))


def _direct_response(reader: Reader, node: Node) -> DirectResponse:
    fields = reader.block(node, "`direct_response`", DIRECT_RESPONSE_KEYS)
    status = reader.integer(fields.get("status"), "`status`", least=200)
    if status in _REDIRECTS:
        reader.error(fields["status"], f"write `redirect: {{to: …, status: {status}}}`")
    elif status is not None and (status > 599 or status == 304):
        reader.error(fields["status"], f"`status` is 200 to 599 and no redirect, not {status}")
    body = (reader.text(fields.get("body"), "`body`") or "").encode("utf-8", "replace")
    if len(body) > _BODY_MAX_BYTES:
        reader.error(fields["body"], f"`body` is {_BODY_MAX_BYTES // 1024} KiB at most")
    if body and status in (204, 205):
        reader.error(fields["body"], f"an answer with the status {status} has no body")
    kind = reader.text(fields.get("content_type"), "`content_type`")
    if kind is not None and not _MEDIA_TYPE.match(kind):
        reader.error(fields["content_type"], f"`{kind}` is no media type such as `text/html`")
    if "content_type" in fields and "body" not in fields:
        reader.error(fields["content_type"], "`content_type` needs the `body:` that it describes")
    written = read_answer_fields(reader, fields.get("headers"))
    typed = (("Content-Type", kind or _TEXT),) if body else ()
    return DirectResponse(status or 200, (*typed, *written), body)


def _redirect(reader: Reader, node: Node, match: object) -> DirectResponse:
    fields = reader.block(node, "`redirect`", REDIRECT_KEYS)
    to = reader.text(fields.get("to"), "`to`")
    if "to" not in fields and fields:
        reader.error(node, "`redirect` has no `to: https://…` or `to: /path`")
    status = reader.integer(fields.get("status"), "`status`")
    if status is not None and status not in _REDIRECTS:
        reader.error(fields["status"], f"`status` is one of {', '.join(map(str, _REDIRECTS))}")
    keep = reader.flag(fields.get("keep_query"), "`keep_query`", False)
    if to is not None:
        problem = _target_problem(to)
        if problem is not None:
            reader.error(fields["to"], f"`{to}` {problem}")
        elif keep and "#" in to:
            reader.error(
                fields["to"], "with `keep_query`, `to` has no `#`: the query goes before it"
            )
        elif _leads_back(to.partition("?")[0], match):
            reader.error(
                fields["to"], f"`{to}` is the route's own path: it would lead back for ever"
            )
    return DirectResponse(status or 302, location=to, keep_query=keep)


def _target_problem(to: str) -> str | None:
    """What keeps a text from being the target of a redirect; None where nothing does."""
    if not (to.isascii() and to.isprintable()) or re.search(r'[ "<>\\^`{|}]', to):
        return "is no URL: percent-encode what is not plain ASCII"
    before = to.partition("#")[0].partition("?")[0]
    if before.startswith("/"):
        # A browser takes `//host` for another host's.
        if isinstance(canonical(before), Reason):
            return "is no path that everybody reads alike: no `//`, no `..`, no `;`"
        return None
    try:
        parts = urlsplit(to)
        host, user, _ = parts.hostname, parts.username, parts.port
    except ValueError:
        return "is no URL: `https://HOST/path`, or a path that begins with `/`"
    if parts.scheme not in ("https", "http") or not host or not _HOST.match(parts.netloc):
        how = "leave the user out" if user is not None else "`https://HOST/path`, or `/path`"
        return f"is no place to lead to: {how}"
    if parts.path and isinstance(canonical(parts.path), Reason):
        return "has no path that everybody reads alike: no `//`, no `..`, no `;`"
    return None


def _leads_back(to: str, match: object) -> bool:
    """Whether `to` is a path of the route's own `match`, where it takes every method."""
    texts = {
        getattr(key, "value", ""): getattr(value, "value", "")
        for key, value in (match if isinstance(match, list) else ())
    }
    if "methods" in texts:
        return False
    prefix = str(texts.get("prefix") or "").rstrip("/")
    below = "prefix" in texts and (to == prefix or to.startswith(f"{prefix}/"))
    return below or to == texts.get("path")
