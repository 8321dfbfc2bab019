"""The page that a person sees where a program gets problem+json.

Meets `endpoints.router.RefusalPages`: below `ui/` no navigation is ever answered JSON.
"""

from __future__ import annotations

from gateway.access.routing.csrf import is_navigation
from gateway.access.routing.own_paths import OwnPaths
from gateway.edge.endpoints.endpoint import PageReply, ProblemReply
from gateway.edge.pages.problems import sentence_of, status_of
from gateway.edge.pages.renderer import Page, PageRenderer
from gateway.edge.pages.texts import Catalogue
from gateway.edge.replies.navigations import names_html
from gateway.model import Call

UI, PROVIDERS = ("ui",), ("providers",)
"""Of the second a browser comes by the button, and back from the provider."""
HAND_OVER = ("hand-over",)
"""Nothing but browsers comes there, on their way from host to host."""


class RefusalPage:
    def __init__(self, renderer: PageRenderer, catalogue: Catalogue, own_paths: OwnPaths) -> None:
        self._renderer = renderer
        self._catalogue = catalogue
        self._own_paths = own_paths

    def refusal(self, call: Call, reply: ProblemReply, request_id: str) -> PageReply | None:
        own = self._own_paths
        below = own.below(call.segments) if own.is_endpoint(call.segments) else ()
        shown = takes_page(call) if below[:1] in (UI, PROVIDERS) else False
        if below[:1] == HAND_OVER:
            shown = call.method == "GET" and names_html(call.headers)
        if not shown:
            return None
        return self.page(call, reply, request_id)

    def page(
        self, call: Call, reply: ProblemReply, request_id: str, rule_reason: str | None = None
    ) -> PageReply:
        """Of any refusal, for who has seen that a browser asked for a page.  What a rule's own
        reason means to people, a text `denied.REASON` of the operator's says."""
        status = status_of(reply.reason)
        texts = self._catalogue.texts_for(call)
        title, denied = f"title.{reply.reason}", f"denied.{rule_reason}"
        return self._renderer.render(
            call,
            Page(
                "refusal.html",
                {
                    "title": texts(title if texts.has(title) else f"title.{status // 100}xx"),
                    "sentence": texts(denied) if texts.has(denied) else sentence_of(texts, reply),
                    "request_id": request_id,
                    "again": status in (429, 503),
                },
                status=status,
                reason=reply.reason,
            ),
        )


def takes_page(call: Call) -> bool:
    """Whether the caller shows HTML: it says so, or a browser opens a tab."""
    return names_html(call.headers) or is_navigation(call.headers)
