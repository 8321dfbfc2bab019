"""Pages of the console out of templates: escaped, and under a policy that lets nothing else run.

Law: scripts and styles are files of this console alone; no template holds one, nothing of another
host is loaded, no other page frames this one, and a template that names what it is not given fails.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from gateway.access.console import ConsolePermission
from gateway.edge.console.pages import (
    PENDING,
    UNCONFIRMED,
    ConsolePage,
    ConsoleRequest,
    NavigationEntry,
    Operator,
    View,
    page_path,
)
from gateway.edge.console.static_files import StaticFiles
from gateway.edge.replies.problems import OUTCOME, OWN_HEADERS, problem_parts
from gateway.model import Reason

_SCRIPTS = ("htmx.min.js", "htmx-sse.min.js", "console.js")
_KEPT = ("Proxy-Status", "Retry-After", "WWW-Authenticate", "X-Request-Id")


class ConsoleRenderer:
    def __init__(
        self,
        static_files: StaticFiles,
        navigation: Sequence[NavigationEntry],
        *,
        site: str,
        leads_to: Sequence[str] = (),
    ) -> None:
        """`site` names the installation; `leads_to`: origins to which a form may lead on, as
        browsers judge the whole chain of redirects by `form-action`."""
        self._files = static_files
        self._navigation = navigation
        self._site = site
        self._environment = Environment(
            loader=PackageLoader("gateway.edge.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            # A package that is replaced under a running worker must not bring newer templates.
            auto_reload=False,
        )
        self._environment.globals |= {"moment": moment, "age": age, "page_path": page_path}
        self._policy = "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "img-src 'self'",
                "connect-src 'self'",
                " ".join(("form-action 'self'", *leads_to)),
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )

    def page(
        self, page: ConsolePage, request: ConsoleRequest, view: View, problem: Any = None
    ) -> web.Response:
        """A page of the console; `problem` is the `NotDone` of the form that was sent."""
        done = request.query("done")
        notice = PENDING if done == UNCONFIRMED else page.notices.get(done)
        values = {"page": page, "request": request, "notice": notice, "problem": problem}
        status = view.status if problem is None else problem.status
        return self._response(
            view.template,
            {**values, **view.values},
            title=view.title or page.title,
            section=page.section or page.path,
            operator=request.operator,
            status=status,
        )

    def fragment(self, template: str, values: Mapping[str, Any]) -> str:
        """A part of a page, for an event of a stream."""
        return self._environment.get_template(template).render(**values)

    def plain(self, template: str, values: Mapping[str, Any], *, title: str) -> web.Response:
        """A page for who is not known."""
        return self._response(template, values, title=title, section="", operator=None, status=200)

    def refusal(
        self,
        reason: Reason,
        request_id: str,
        *,
        operator: Operator | None = None,
        sentence: str = "",
        values: Mapping[str, Any] | None = None,
        template: str = "notice.html",
    ) -> web.Response:
        """The page that a person sees where a program gets problem+json."""
        row, headers, _ = problem_parts(reason, None, request_id)
        given = {"sentence": sentence or row.detail, "request_id": request_id, **(values or {})}
        response = self._response(
            template, given, title=row.title, section="", operator=operator, status=row.status
        )
        response.headers.update({name: headers[name] for name in _KEPT if name in headers})
        response[OUTCOME] = str(reason)
        return response

    def _response(
        self,
        template: str,
        values: Mapping[str, Any],
        *,
        title: str,
        section: str,
        operator: Operator | None,
        status: int,
    ) -> web.Response:
        document = self._environment.get_template(template).render(
            site=self._site,
            title=title,
            section=section,
            navigation=self._navigation,
            operator=operator,
            may_write=operator is not None and operator.may(ConsolePermission.WRITE),
            files=self._files.paths,
            scripts=[self._files.paths[name] for name in _SCRIPTS],
            **values,
        )
        headers = {
            **OWN_HEADERS,
            "Content-Type": "text/html; charset=utf-8",
            # With `no-referrer` the `Origin` of a form is `null` (Fetch, section 3.2).
            "Referrer-Policy": "same-origin",
            "Content-Security-Policy": self._policy,
            "Cross-Origin-Opener-Policy": "same-origin",
            "X-Frame-Options": "DENY",
            "Vary": "HX-Request",
        }
        return web.Response(status=status, body=document.encode(), headers=headers)


def moment(at: float | None) -> str:
    """A day and a time (RFC 3339, with a space and without fractions)."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def age(at: float | None) -> str:
    """How long ago, as people say it; of what is to come, in how long."""
    if at is None:
        return "never"
    seconds = time.time() - at
    told = _told(abs(seconds))
    return f"{told} ago" if seconds >= 0 else f"in {told}"


def _told(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
