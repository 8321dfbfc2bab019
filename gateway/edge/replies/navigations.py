"""Whether a call is a browser that asks for a page to show, rather than a program or a script."""

from __future__ import annotations

from collections.abc import Collection

from gateway.access.routing.csrf import is_navigation
from gateway.model import Call, RawHeaders

NAVIGATION_METHODS = ("GET", "POST")
"""Those of links, of what is typed, and of forms."""

_XHTML = "application/xhtml+xml"
_LONGEST = 1_000
"""Characters of `Accept` that are read: those of browsers have 150."""


def asks_for_page(call: Call, methods: Collection[str] = ("GET",)) -> bool:
    """By fetch metadata: a navigation of a tab, whose `Accept` takes HTML.

    Browsers leave fetch metadata out where the page came without TLS, and old ones always: then
    it is a GET whose `Accept` names XHTML beside HTML, as browsers alone do for a page and never
    for a script's call, and that no script made (`X-Requested-With`).
    """
    if call.method not in methods:
        return False
    headers = call.headers
    types = _accepted(headers)
    if any(name.lower().startswith(b"sec-fetch-") for name, _ in headers):
        takes = not types or not types.isdisjoint(("text/html", "text/*", "*/*"))
        return takes and is_navigation(headers)
    made_by_script = single_field(headers, b"x-requested-with") != ""
    return call.method == "GET" and not made_by_script and types >= {"text/html", _XHTML}


def names_html(headers: RawHeaders) -> bool:
    """Whether `Accept` names HTML itself."""
    return "text/html" in _accepted(headers)


def single_field(headers: RawHeaders, name: bytes) -> str | None:
    """The value of a field, empty where there is none; None where it came more than once."""
    values = [value for key, value in headers if key.lower() == name]
    if not values:
        return ""
    return values[0].decode("latin-1") if len(values) == 1 else None


def _accepted(headers: RawHeaders) -> set[str]:
    """The media types that `Accept` names and does not rule out (RFC 9110 section 12.5.1)."""
    types: set[str] = set()
    values = [value for name, value in headers if name.lower() == b"accept"]
    if not values:
        return types
    for text in b",".join(values)[:_LONGEST].decode("latin-1").lower().split(","):
        media_type, *parameters = (part.strip() for part in text.split(";"))
        if not any(_is_zero(one) for one in parameters):
            types.add(media_type)
    return types


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name == "q" and value.strip("0") in ("", ".")
