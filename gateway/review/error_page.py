"""A denial explained in the browser, to whoever the route's `errors: explain` names.

Everybody else gets the plain answer.  Who holds the role sees why even where the client is to
see nothing: they are the ones who mend policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from gateway.access.explanation import explain
from gateway.access.simulation import SimulatedRequest, SimulatedResult
from gateway.edge.replies.problems import problem_type
from gateway.model import Call, Credential, CredentialKind, SystemClock
from gateway.review.counterfactuals import find_counterfactuals
from gateway.review.rendering import as_text, status_of

if TYPE_CHECKING:
    from gateway.access.authorizer import Decision
    from gateway.access.snapshot import Snapshot

_STYLE = (
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:3rem auto;"
    "max-width:60rem;padding:0 1rem}pre{font:13px/1.6 ui-monospace,monospace;"
    "white-space:pre-wrap;border:1px solid #8884;border-radius:6px;padding:1rem}"
    "h1{font-size:1.3rem}small{opacity:.7}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


class ExplainedDenial:
    """Meets `edge.proxy.local_replies.DenialPage`."""

    headers: Mapping[str, str] = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": POLICY,
    }

    def is_for(self, call: Call, decision: Decision) -> bool:
        """Whether the caller is one who is shown why, and asked for a page."""
        route, caller = decision.route, decision.principal
        if route is None or route.explain_role is None or caller is None:
            return False
        roles = route.policy.roles.expand(caller.roles) if route.policy else caller.role_set
        if route.explain_role not in roles:
            return False
        accepts = [value for name, value in call.headers if name.lower() == b"accept"]
        return any(b"text/html" in value.lower() for value in accepts)

    def render(self, call: Call, decision: Decision, snapshot: Snapshot, request_id: str) -> bytes:
        """The explanation of `gateway explain` as one page; every text of the request is escaped.

        It asks many decisions anew to find what would have allowed the call: in a thread.
        """
        assert decision.principal is not None
        clock = SystemClock()
        explanation = explain(decision, call, snapshot, clock.now)
        credential = call.credential
        request = SimulatedRequest(
            call.method,
            f"{call.path}?{call.query}" if call.query else call.path,
            decision.principal,
            [
                ("Host", call.host),
                *((n.decode("latin-1"), v.decode("latin-1")) for n, v in _plain_fields(call)),
            ],
            call.client_ip,
            call.body,
            clock,
            credential.kind if isinstance(credential, Credential) else CredentialKind.BEARER,
        )
        counterfactuals = find_counterfactuals(request, SimulatedResult(decision, call), snapshot)
        status = status_of(decision, lambda reason, refusal: problem_type(reason, refusal).status)
        lines = [text for text, _ in as_text(decision, status, explanation, counterfactuals)]
        text = escape("\n".join(lines))
        title = escape(lines[0])
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f"<style>{_STYLE}</style><h1>{title}</h1><pre>{text}</pre>"
            f"<small>request {escape(request_id)} · shown to the role "
            f"{escape(decision.route.explain_role or '') if decision.route else ''}</small></html>"
        ).encode()


def _plain_fields(call: Call) -> list[tuple[bytes, bytes]]:
    kept = (b"host", b"authorization", b"cookie")
    return [(name, value) for name, value in call.headers if name.lower() not in kept]
