"""What the admin listener answers.

`/healthz`, `/readyz` and `/metrics` are for probes and scrapers, `/openapi.yaml` for whoever
writes a client; `/decide/…` is for other proxies (`decision_api.py`).  `/admin` is the console
(`edge/console/`), and `/admin/api/…` what programs ask of it: both want to know who asks, and are
not served at all where others than this machine could reach them.  Everything else checks `Host`
first: a page of another site that points its own name at 127.0.0.1 must not read any of it (DNS
rebinding).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import Any

import structlog
from aiohttp import web

from gateway.access.console import ConsolePermission
from gateway.access.routing.own_paths import OwnPaths
from gateway.audit.log import AuditEvent, AuditKind
from gateway.edge.admin.decision_api import PREFIX as DECISIONS
from gateway.edge.admin.shared_run import SharedRun
from gateway.edge.console.console import ENDPOINT, Console, is_of_console
from gateway.edge.console.operators import Operators
from gateway.edge.console.overview_page import Outbox, WorkerStatuses
from gateway.edge.console.pages import Operator
from gateway.edge.endpoints.audit_events import AuditSink
from gateway.edge.http1.request_head import RequestHead
from gateway.edge.proxy.request import CallReader
from gateway.edge.replies.problem_types import ProblemTypes
from gateway.edge.replies.problems import OUTCOME, OWN_HEADERS, link_problem, problem
from gateway.edge.server.handler import Handler
from gateway.edge.server.listener import Connection, ServeResult
from gateway.edge.server.peer import Peer
from gateway.edge.server.request_body import RequestBody
from gateway.loopback import is_loopback
from gateway.model import Call, Reason
from gateway.telemetry.access_record import AnsweredRequest
from gateway.telemetry.exposition import exposition, media_type_for
from gateway.telemetry.metrics import State, Tally

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AdminOptions:
    hosts: frozenset[str]
    """Names beside localhost and the loopback addresses by which the listener may be called."""
    own_paths: OwnPaths = field(default_factory=OwnPaths)
    """Of the public listener: the description says where its endpoints are."""


class AdminListener:
    def __init__(
        self,
        options: AdminOptions,
        workers: WorkerStatuses,
        reader: CallReader,
        outbox: Outbox | None = None,
        decisions: Handler | None = None,
        *,
        console: Console | None = None,
        operators: Operators | None = None,
        readiness: WorkerStatuses | None = None,
        meter: Callable[[str, str, int, float], None] | None = None,
        defects: Tally | None = None,
        complete: Callable[[Sequence[State]], Sequence[State]] | None = None,
        on_refusal: Callable[[str, AnsweredRequest], None] | None = None,
        problem_types: ProblemTypes | None = None,
        audit: AuditSink | None = None,
    ) -> None:
        """`readiness` gives statuses that need not hold routes and counts, which are long where
        there are many routes; `console` and `operators` are None where `/admin` is not served;
        `meter` is `metrics.Metrics.record_endpoint`; `complete` adds the counts of workers that
        are gone, in a thread; `on_refusal` is told of each answer that has a reason; `audit` of
        who has read mails."""
        self._options = options
        self._meter = meter
        self._expositions = SharedRun(self._exposition)
        self._defects = defects or Tally()
        self._complete = complete
        self._on_refusal = on_refusal
        self._problem_types = problem_types or ProblemTypes()
        self._decisions = decisions
        self._workers = workers
        self._readiness = readiness or workers
        self._reader = reader
        self._outbox = outbox
        self._console = console
        self._operators = operators
        self._audit = audit
        description = files("gateway").joinpath("schemas", "openapi.yaml").read_text("utf-8")
        self._openapi = options.own_paths.told_in(description).encode()
        self._open: dict[str, Callable[[], Awaitable[web.Response]]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/openapi.yaml": self._description,
        }
        self._guarded = frozenset(("/admin/api/state", "/admin/api/outbox"))
        # A link in a mail sets the password of whomever it was written to.
        self._for_who_acts = frozenset(("/admin/api/outbox",))
        self._known = self._open.keys() | (frozenset() if operators is None else self._guarded)

    def serve(self, client: Connection, head: RequestHead, body: RequestBody) -> ServeResult:
        """Meets `server.handler.Handler`.

        The decision API trusts peers, not `Host`: Envoy asks with that of the original call.
        """
        if self._decisions is not None and head.target.startswith(DECISIONS):
            return self._decisions.serve(client, head, body)
        return client.answer(head, body, partial(self.answer, head=head, peer=client.peer))

    async def answer(
        self, request: web.BaseRequest, *, head: RequestHead, peer: Peer
    ) -> web.StreamResponse:
        """Counted by the address that was asked, where it is one of ours."""
        began = time.perf_counter()
        path = request.raw_path.partition("?")[0]
        request_id = secrets.token_hex(16)
        try:
            call = self._reader.read(head, peer)
            answer: web.StreamResponse = await self._answered(request, path, call, request_id)
        except ConnectionError:
            raise  # whoever asked has gone
        except Exception as error:
            log.error("request-failed", request_id=request_id, exc_info=error)
            self._defects.n += 1
            answer = problem(Reason.INTERNAL_ERROR, request_id=request_id)
        link_problem(answer, self._problem_types)
        if self._meter is not None and isinstance(answer, web.Response):  # and no stream
            outcome = answer.get(OUTCOME, "ok")
            endpoint = answer.get(ENDPOINT) or (path if path in self._known else "")
            self._meter(endpoint, outcome, answer.status, time.perf_counter() - began)
        if self._on_refusal is not None and (reason := answer.get(OUTCOME)) is not None:
            self._on_refusal(
                reason,
                AnsweredRequest(
                    request_id,
                    answer.status,
                    request.remote or "",
                    request.method,
                    request.host,
                    path,
                    [(b"User-Agent", request.headers.get("User-Agent", "").encode())],
                    time.perf_counter() - began,
                ),
            )
        return answer

    async def _answered(
        self, request: web.BaseRequest, path: str, call: Call | Reason, request_id: str
    ) -> web.StreamResponse:
        if not self._allows_host(request):
            return _refused(Reason.HOST_MISMATCH, request_id, 403)
        if self._console is not None and isinstance(call, Call) and is_of_console(path):
            return await self._console.answer(request, call, request_id)
        if path not in self._known:
            return problem(Reason.ROUTE_UNKNOWN, request_id=request_id)
        if request.method not in ("GET", "HEAD"):
            return problem(Reason.METHOD_NOT_ALLOWED, request_id=request_id, allow=("GET", "HEAD"))
        if path == "/metrics":
            return await self._metrics(",".join(request.headers.getall("Accept", ())))
        if path in self._open:
            return await self._open[path]()
        operator = await self._operator(request, path, call)
        if isinstance(operator, Reason):
            return problem(operator, request_id=request_id)
        if path == "/admin/api/state":
            return await self._state()
        assert isinstance(call, Call)
        return await self._mails(call, operator, request_id)

    def _allows_host(self, request: web.BaseRequest) -> bool:
        values = request.headers.getall("Host", [])
        if len(values) != 1:
            return False
        host = values[0].lower()
        host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        return is_loopback(host) or host in self._options.hosts

    async def _operator(
        self, request: web.BaseRequest, path: str, call: Call | Reason
    ) -> Operator | Reason:
        """Who shows a token with which this may be read; a cookie is none."""
        if _foreign(request):
            return Reason.CROSS_ORIGIN
        if isinstance(call, Reason):
            return call
        assert self._operators is not None
        operator = await self._operators.of_bearer(call)
        if isinstance(operator, Reason):
            return operator
        if path not in self._for_who_acts:
            return operator if operator.may(ConsolePermission.READ) else Reason.NO_RULE
        if not operator.may(ConsolePermission.WRITE):
            return Reason.NO_RULE
        may_act = self._operators.may_act(operator)
        return operator if may_act else Reason.INSUFFICIENT_USER_AUTHENTICATION

    async def _healthz(self) -> web.Response:
        return _json({"status": "ok"})

    async def _readyz(self) -> web.Response:
        """200 when every worker can decide; what each depends on, and what it runs."""
        statuses = await self._readiness.gather()
        workers = [{key: status[key] for key in _TOLD if key in status} for status in statuses]
        ready = all(worker["ready"] for worker in workers)
        return _json({"ready": ready, "workers": workers}, status=200 if ready else 503)

    async def _metrics(self, accept: str = "") -> web.Response:
        media_type = media_type_for(accept)
        body = await self._expositions.of(media_type)
        headers = {**OWN_HEADERS, "Content-Type": media_type, "Vary": "Accept"}
        return web.Response(body=body, headers=headers)

    async def _exposition(self, media_type: str) -> bytes:
        states = [status["metrics"] for status in await self._workers.gather()]
        # With a thousand routes it takes a third of a second: the calls have their turn between.
        return await asyncio.to_thread(self._exposed, states, media_type)

    def _exposed(self, states: Sequence[State], media_type: str) -> bytes:
        all_states = states if self._complete is None else self._complete(states)
        return exposition(all_states, media_type)

    async def _description(self) -> web.Response:
        """What the public listener answers, as OpenAPI; the media type is RFC 9512's."""
        headers = {**OWN_HEADERS, "Content-Type": "application/yaml"}
        return web.Response(body=self._openapi, headers=headers)

    async def _state(self) -> web.Response:
        statuses = await self._workers.gather()
        hidden = ("metrics",)
        return _json(
            {
                "workers": [
                    {k: v for k, v in status.items() if k not in hidden} for status in statuses
                ]
            }
        )

    async def _mails(self, call: Call, operator: Operator, request_id: str) -> web.Response:
        mails = [] if self._outbox is None else [dict(mail) for mail in await self._outbox.mails()]
        assert self._operators is not None
        again = await self._operators.of_bearer(call)  # the store may have been waited for
        if isinstance(again, Reason):
            return problem(again, request_id=request_id)
        if mails and self._audit is not None:
            self._audit.record(
                AuditEvent(
                    AuditKind.MAIL_READ,
                    actor=operator.actor,
                    address=call.client_ip,
                    request_id=request_id,
                    detail={"mails": len(mails)},
                )
            )
        return _json({"mails": mails})


_TOLD = ("worker", "ready", "configuration", "dependencies", "issuers", "providers")
"""What `/readyz` says of each worker."""

_UNKNOWN_HOST = (
    "The admin listener is not called by this Host: GATEWAY_ADMIN_HOSTS names those that it is"
    " called by, beside localhost and the loopback addresses."
)


def _foreign(request: web.BaseRequest) -> bool:
    """Whether a page of another origin sends this."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return True
    origin = request.headers.get("Origin")
    host = request.headers.get("Host", "")
    return origin is not None and origin not in (f"http://{host}", f"https://{host}")


def _json(document: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(document, indent=2, default=str).encode() + b"\n",
        headers={**OWN_HEADERS, "Content-Type": "application/json"},
    )


def _refused(reason: Reason, request_id: str, status: int) -> web.Response:
    """The table's answer with another status: here a foreign `Host` is 403, as it is no defect
    of the request but may be a page's attempt (DNS rebinding)."""
    answer = problem(reason, request_id=request_id, detail=_UNKNOWN_HOST)
    document = json.loads(bytes(answer.body or b"{}"))  # type: ignore[arg-type]
    document["status"] = status
    answer.set_status(status)
    answer.body = json.dumps(document).encode()
    return answer
