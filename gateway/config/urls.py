"""URLs of other parties, as a configuration writes them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from gateway.config.yaml_reader import Node, Reader
from gateway.loopback import is_loopback

_HOST = re.compile(r"[a-z0-9.:_-]+\Z")


def read_url(
    reader: Reader, node: Node | None, what: str, *, query: bool = False, plain: bool = False
) -> str | None:
    """`https://HOST[:PORT][/PATH]`, as it is written; `http://` on this machine alone.

    `query`: it may have one.  `plain`: it is for people, and `http://` will do.
    """
    text = reader.text(node, what)
    if text is None or node is None:
        return None
    problem = _problem(text, query=query, plain=plain)
    if problem is None:
        return text
    reader.error(node, f"{what} {problem}")
    return None


def _problem(text: str, *, query: bool, plain: bool) -> str | None:
    try:
        parts = urlsplit(text)
        port_known = parts.port is None or parts.port > 0
    except ValueError:
        return f"cannot be `{text}`, which is no URL: `https://HOST/PATH`"
    # urlsplit() drops tabs and line ends without a word.
    printable = text.isascii() and text.isprintable() and " " not in text
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not _HOST.match(host) or not printable:
        return f"cannot be `{text}`, which is no URL: `https://HOST/PATH`"
    if not port_known or text.partition("://")[0] != parts.scheme:
        return f"cannot be `{text}`, which is no URL: `https://HOST/PATH`"
    if parts.username is not None or parts.password is not None:
        return "holds a user or a password: leave it out"
    if "#" in text:
        return "has a fragment (`#…`), which is never sent: leave it out"
    if "?" in text and not query:
        return "has a query (`?…`): leave it out"
    if parts.scheme == "http" and not plain and not is_loopback(host):
        return "begins with `http://`, so anybody on the way could answer: `https://…`"
    return None
