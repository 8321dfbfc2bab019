"""Whether a page of this console sends a call, and no page of another origin.

Three proofs, of which none is enough alone: the browser's `Sec-Fetch-Site`, its `Origin`, and for a
form that a cookie accompanies the token that only a page of this console can hold.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from gateway.access.routing.csrf import SAFE_METHODS, is_navigation
from gateway.edge.replies.navigations import single_field
from gateway.model import Call, Reason

CSRF_FIELD = "csrf"


def foreign(call: Call, own_origins: frozenset[str], *, lets_navigate: bool = True) -> bool:
    """Whether a page of another origin sends this, or something that may be one.

    A link of another site may lead a tab here: what it opens is shown to the person alone.  Where
    more than that comes of it, `lets_navigate` is False.
    """
    site = single_field(call.headers, b"sec-fetch-site")
    origin = single_field(call.headers, b"origin")
    if site is None or origin is None:
        return True  # a field that came twice: no browser sends that
    if origin and origin not in own_origins:
        return True
    if site in ("", "none", "same-origin"):
        return False
    led = call.method in SAFE_METHODS and is_navigation(call.headers)
    return not (led and lets_navigate)


def form_refusal(csrf_token: str, form: Mapping[str, str]) -> Reason | None:
    """Why a form does not count, which came from no foreign page.  `csrf_token` is that of the
    cookie that came; empty where none did."""
    if not csrf_token:
        return None  # by a token that no browser adds by itself
    given = form.get(CSRF_FIELD, "")
    good = hmac.compare_digest(given.encode("utf-8", "surrogateescape"), csrf_token.encode())
    return None if good else Reason.CSRF_INVALID


def own_origins(call: Call) -> frozenset[str]:
    """Those of the `Host` that came, which the listener has found to be its own."""
    host = (single_field(call.headers, b"host") or "").lower()
    return frozenset((f"http://{host}", f"https://{host}"))
