"""The console: a call of `/admin/…` becomes a page, an action, or a refusal that a person can read.

    static file         without asking who
    sign-in, sign-out   `sign_in_page.py`
    a page              a known operator, the permission of the page, then `show`
    an action           the same, and again once the whole form is there, the proofs of intent, the
                        permission of the action, then `act`, whose every transaction asks once more
                        (`operator_database.py`), then its audit events with the operator's name,
                        then the changes that every worker has to confirm, then a redirect

Law: what a person who is not known may see is the sign-in page and the static files; no refusal
tells them which pages there are.  What an action has written is in the audit log, whoever leaves
and whichever store is away meanwhile: from `act` on it goes on without the client, and nothing is
asked of a store between the commit and the event.  An action that writes nothing ends with its
client.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field, replace

import structlog
from aiohttp import web

from gateway.access.console import HOME, ConsolePermission
from gateway.access.step_up import StepUp
from gateway.audit.log import AuditEvent
from gateway.edge.console.operator_database import OperatorGone, acting_as
from gateway.edge.console.operators import Operators
from gateway.edge.console.pages import (
    PENDING,
    UNCONFIRMED,
    Acted,
    ConsoleAction,
    ConsolePage,
    ConsoleRequest,
    NotDone,
    NotFound,
    Operator,
    PageRegistry,
)
from gateway.edge.console.proof_of_intent import foreign, form_refusal, own_origins
from gateway.edge.console.renderer import ConsoleRenderer
from gateway.edge.console.replies import attached, redirect
from gateway.edge.console.sign_in_page import ConsoleSignIn
from gateway.edge.console.static_files import PREFIX as STATIC
from gateway.edge.console.static_files import StaticFiles
from gateway.edge.endpoints.audit_events import AuditSink
from gateway.edge.endpoints.endpoint import ProblemReply, ShieldedTasks
from gateway.edge.endpoints.factor_changes import FRESH_S
from gateway.edge.endpoints.form_body import MalformedForm, read_form
from gateway.edge.replies.problems import HSTS, OWN_HEADERS
from gateway.model import Call, Clock, Reason
from gateway.stores.protocols import RevocationPublisher, StoreUnavailable

log = structlog.get_logger(__name__)

ENDPOINT = web.ResponseKey("console_endpoint", str)
"""The address of the page as it was registered, for who counts answers."""

ENDED = frozenset(
    (
        Reason.TOKEN_REVOKED,
        Reason.TOKEN_OUTDATED,
        Reason.SESSION_UNKNOWN,
        Reason.KEY_UNKNOWN,
        Reason.ACCOUNT_DISABLED,
    )
)
"""What says that who asks has ended.  A secret is shown once: what passes (a store that is away)
does not take it from who has it made."""

_NO_ROLE = (
    "You are signed in, and what you may do here does not cover this page: it needs the permission"
)
STREAMS_MAX = 8
"""Streams of one worker: as many as a worker shows its answers to."""
STREAM_S = 3_600.0
_STREAM_HEADERS = {
    **OWN_HEADERS,
    "Content-Type": "text/event-stream",
    "X-Accel-Buffering": "no",  # nginx would collect what is to be seen now
}
_HTTPS_ONLY = (
    "Outside loopback the console is served over https alone: the proxy that ends TLS must say"
    " X-Forwarded-Proto: https, and be one of GATEWAY_TRUSTED_PROXIES."
)
_STRONGER = "The policy of the console asks for another way to sign in, or for a fresher one."
_NOT_SHOWN = (
    "You are signed out. It was done, and what it made was not shown: who is signed in makes"
    " another in its place."
)
_NOT_READ = (
    "It was done and is kept, and what it made cannot be shown now: look again in a moment, and do"
    " not repeat it."
)
_NOT_FRESH = "This asks for a sign-in of the last five minutes: sign in again, then repeat it."


@dataclass(frozen=True, slots=True)
class ConsoleDependencies:
    pages: PageRegistry
    renderer: ConsoleRenderer
    static_files: StaticFiles
    operators: Operators
    sign_in: ConsoleSignIn
    audit: AuditSink
    publisher: RevocationPublisher
    clock: Clock
    shielded: ShieldedTasks
    """Waited for when the worker stops."""
    draining: Callable[[], bool] = field(default=lambda: False)
    """Whether the worker ends: streams do not keep it."""
    https_only: bool = False
    """Where the listener is reached from elsewhere, by a proxy that ends TLS."""


class Console:
    def __init__(self, dependencies: ConsoleDependencies) -> None:
        self._deps = dependencies
        self._streams = 0

    async def answer(
        self, request: web.BaseRequest, call: Call, request_id: str
    ) -> web.StreamResponse:
        """Of a call whose `Host` is one of the listener's."""
        answer = await self._answer(request, call, request_id)
        if call.scheme == "https" and not answer.prepared:
            answer.headers["Strict-Transport-Security"] = HSTS
        return answer

    async def _answer(
        self, request: web.BaseRequest, call: Call, request_id: str
    ) -> web.StreamResponse:
        path = call.path.removesuffix("/") or HOME
        if path.startswith(STATIC):
            found = self._deps.static_files.answer(request, path)
            return _counted(found or self._nothing(request_id), STATIC)
        if self._deps.https_only and call.scheme != "https":
            return self._deps.renderer.refusal(
                Reason.HOST_MISMATCH, request_id, sentence=_HTTPS_ONLY
            )
        if foreign(call, own_origins(call)):
            return self._deps.renderer.refusal(Reason.CROSS_ORIGIN, request_id)
        if self._deps.sign_in.answers(path):
            return _counted(await self._sign_in(request, call, path, request_id), path)
        operator = await self._deps.operators.identify(call)
        if isinstance(operator, Reason):
            return self._deps.sign_in.ask(call, operator, request_id)
        matched = self._deps.pages.match(_segments(call))
        if matched is None:
            return self._nothing(request_id, operator)
        page, parameters = matched
        asked = ConsoleRequest(call, operator, request_id, parameters)
        try:
            response = await self._of_page(request, page, asked)
        except StoreUnavailable as error:
            response = self._deps.renderer.refusal(error.reason, request_id, operator=operator)
        return _counted(response, page.path)

    async def _of_page(
        self, request: web.BaseRequest, page: ConsolePage, asked: ConsoleRequest
    ) -> web.StreamResponse:
        renderer, method = self._deps.renderer, asked.call.method
        if method not in ("GET", "HEAD") and not (method == "POST" and page.actions):
            refusal = renderer.refusal(
                Reason.METHOD_NOT_ALLOWED, asked.request_id, operator=asked.operator
            )
            refusal.headers["Allow"] = "GET, HEAD, POST" if page.actions else "GET, HEAD"
            return refusal
        if not asked.operator.may(page.permission):
            return self._forbidden(asked, page.permission)
        if page.stream is not None and method == "HEAD":
            return web.Response(headers=_STREAM_HEADERS)
        if page.stream is not None:
            return await self._streamed(request, page, page.stream(asked), asked)
        if method == "POST":
            return await self._acted(request, page, asked)
        return await self._shown(page, asked)

    async def _shown(
        self, page: ConsolePage, asked: ConsoleRequest, problem: NotDone | None = None
    ) -> web.Response:
        view = await page.show(asked)
        if isinstance(view, NotFound):
            return self._missing(asked, view)
        if view.events:
            # Mails are shown again, so whatever is said of who asks keeps them back.
            operator = await self._deps.operators.identify(asked.call)
            if isinstance(operator, Reason):
                return self._deps.sign_in.ask(asked.call, operator, asked.request_id)
        self._record(asked, view.events)
        return self._deps.renderer.page(page, asked, view, problem)

    async def _streamed(
        self,
        request: web.BaseRequest,
        page: ConsolePage,
        messages: AsyncGenerator[str, None],
        asked: ConsoleRequest,
    ) -> web.StreamResponse:
        """Goes on until who looks leaves, may no more, or has looked for long.  It is asked before
        each message whether they may see it."""
        if foreign(asked.call, own_origins(asked.call), lets_navigate=False):
            return self._deps.renderer.refusal(
                Reason.CROSS_ORIGIN, asked.request_id, operator=asked.operator
            )
        if self._streams >= STREAMS_MAX:
            return self._deps.renderer.refusal(
                Reason.RATE_LIMITED, asked.request_id, operator=asked.operator
            )
        self._streams += 1
        try:
            headers = {**_STREAM_HEADERS, "Content-Type": page.stream_type}
            if page.stream_file:
                headers["Content-Disposition"] = f'attachment; filename="{page.stream_file}"'
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            began_at = self._deps.clock.steady()
            async with aclosing(messages):
                async for message in messages:
                    operator = await self._deps.operators.identify(asked.call)
                    if isinstance(operator, Reason) or not operator.may(page.permission):
                        break
                    await response.write(message.encode())
                    is_over = self._deps.clock.steady() - began_at > STREAM_S
                    if is_over or self._deps.draining():
                        break
            return response
        except ConnectionError:
            raise  # who looked has gone
        except Exception as error:
            log.error("request-failed", request_id=asked.request_id, exc_info=error)
            # What has begun ends in an abort, and in no second answer behind the first.
            raise ConnectionAbortedError from error
        finally:
            self._streams -= 1

    async def _acted(
        self, request: web.BaseRequest, page: ConsolePage, asked: ConsoleRequest
    ) -> web.Response:
        renderer = self._deps.renderer
        form = await read_form(request, page.form_bytes)
        if isinstance(form, ProblemReply | MalformedForm):
            reason = form.reason if isinstance(form, ProblemReply) else Reason.BODY_MALFORMED
            return renderer.refusal(reason, asked.request_id, operator=asked.operator)
        # A form may come for ten seconds, and the session have ended meanwhile.
        operator = await self._deps.operators.identify(asked.call)
        if isinstance(operator, Reason):
            return self._deps.sign_in.ask(asked.call, operator, asked.request_id)
        asked = replace(asked, operator=operator)
        if not operator.may(page.permission):
            return self._forbidden(asked, page.permission)
        refusal = form_refusal(asked.operator.csrf_token, form)
        if refusal is not None:
            return renderer.refusal(refusal, asked.request_id, operator=asked.operator)
        action: ConsoleAction | None = page.actions.get(form.get("do", ""))
        if action is None:
            return renderer.refusal(Reason.BODY_INVALID, asked.request_id, operator=asked.operator)
        if not asked.operator.may(action.permission):
            return self._forbidden(asked, action.permission)
        if action.fresh and not asked.operator.is_fresh(self._deps.clock.now()):
            return self._stronger(asked, StepUp(FRESH_S), _NOT_FRESH)
        done = self._done(page, action, replace(asked, form=form))
        if not action.writes:
            return await done  # nobody waits for what it finds, once they have gone
        return await self._deps.shielded(done)

    async def _done(
        self, page: ConsolePage, action: ConsoleAction, asked: ConsoleRequest
    ) -> web.Response:
        """Does it, whether or not the client is still there: what writes is run shielded."""
        told: list[AuditEvent] = []

        def record(event: AuditEvent) -> None:
            told.append(event)
            self._record(asked, (event,))

        try:
            # Without it nothing is written.
            with acting_as(asked.operator) if action.writes else nullcontext():
                outcome = await action.act(replace(asked, record=record))
        except OperatorGone as error:
            return self._deps.sign_in.ask(asked.call, error.reason, asked.request_id)
        if isinstance(outcome, NotFound):
            return self._missing(asked, outcome)
        self._record(asked, outcome.events)
        if isinstance(outcome, NotDone):
            return await self._shown(page, asked, outcome)
        is_told = told or outcome.events
        assert is_told or action.permission is ConsolePermission.READ, "nobody could find it"
        return await self._answered(page, asked, outcome)

    async def _answered(
        self, page: ConsolePage, asked: ConsoleRequest, outcome: Acted
    ) -> web.Response:
        """Tells the workers and the operator of what the audit log has been told."""
        renderer = self._deps.renderer
        view, hidden, why = None, None, _NOT_READ
        if outcome.view is not None:
            try:
                view = await outcome.view()
            except StoreUnavailable as error:
                hidden = error.reason
        if outcome.view is not None or outcome.attachment is not None:
            # Before anybody is told of the changes: they may end what the operator calls with.
            ended = await self._ended(asked)
            if ended is not None:
                hidden, why = ended, _NOT_SHOWN
        if hidden is None and outcome.attachment is not None:
            return attached(outcome.attachment)
        confirmed = outcome.confirmed
        if outcome.changes:
            confirmed = await self._deps.publisher.publish(outcome.changes) and confirmed
        if hidden is not None:
            sentence = why if confirmed else f"{why} {PENDING}"
            return renderer.refusal(hidden, asked.request_id, sentence=sentence)
        if view is not None:
            notice = {} if confirmed else {"notice": PENDING}
            view = replace(view, values={**view.values, **notice})
            return renderer.page(page, asked, view)
        location = outcome.location or asked.call.path
        done = outcome.notice if confirmed else UNCONFIRMED
        return redirect(f"{location}?done={done}" if done else location)

    async def _ended(self, asked: ConsoleRequest) -> Reason | None:
        """Whether who asks is signed in no more, after all that a store may have kept waiting."""
        operator = await self._deps.operators.identify(asked.call)
        return operator if isinstance(operator, Reason) and operator in ENDED else None

    def _record(self, asked: ConsoleRequest, events: Sequence[AuditEvent]) -> None:
        for event in events:
            self._deps.audit.record(
                replace(
                    event,
                    actor=asked.operator.actor,
                    address=asked.call.client_ip,
                    request_id=asked.request_id,
                    detail={**event.detail, "by": "console"},
                )
            )

    async def _sign_in(
        self, request: web.BaseRequest, call: Call, path: str, request_id: str
    ) -> web.Response:
        try:
            return await self._deps.sign_in.answer(request, call, path, request_id)
        except StoreUnavailable as error:
            return self._deps.renderer.refusal(error.reason, request_id)

    def _stronger(self, asked: ConsoleRequest, step_up: StepUp, sentence: str) -> web.Response:
        """To a sign-in that is fresher or stronger; who cannot be led there is told."""
        led = self._deps.sign_in.step_up(asked.call, step_up)
        return led or self._deps.renderer.refusal(
            Reason.INSUFFICIENT_USER_AUTHENTICATION,
            asked.request_id,
            operator=asked.operator,
            sentence=sentence,
        )

    def _forbidden(self, asked: ConsoleRequest, permission: ConsolePermission) -> web.Response:
        step_up = asked.operator.step_ups.get(permission)
        if step_up is not None:
            return self._stronger(asked, step_up, _STRONGER)
        self._deps.audit.denied(Reason.NO_RULE, "console", asked.operator.actor)
        return self._deps.renderer.refusal(
            Reason.NO_RULE,
            asked.request_id,
            operator=asked.operator,
            sentence=f"{_NO_ROLE} {permission}.",
        )

    def _missing(self, asked: ConsoleRequest, missing: NotFound) -> web.Response:
        return self._deps.renderer.refusal(
            Reason.ROUTE_UNKNOWN,
            asked.request_id,
            operator=asked.operator,
            sentence=missing.sentence,
        )

    def _nothing(self, request_id: str, operator: Operator | None = None) -> web.Response:
        return self._deps.renderer.refusal(Reason.ROUTE_UNKNOWN, request_id, operator=operator)


def is_of_console(path: str) -> bool:
    """Whether the console answers this path: what programs ask stands below `/admin/api/`."""
    return path == HOME or (path.startswith(f"{HOME}/") and not path.startswith(f"{HOME}/api/"))


def _segments(call: Call) -> tuple[str, ...]:
    return call.segments[:-1] if call.segments[-1:] == ("",) else call.segments


def _counted(response: web.StreamResponse, endpoint: str) -> web.StreamResponse:
    response[ENDPOINT] = endpoint
    return response
