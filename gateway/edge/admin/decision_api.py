"""The decision API: the questions of other proxies over HTTP, each in the form that it knows.

/decide/nginx     auth_request     described by X-Original-*; status in Authgate-Status
/decide/envoy     ext_authz        described by the request line and Host
/decide/traefik   forwardAuth      described by X-Forwarded-*
/decide/caddy     forward_auth     described by X-Forwarded-*

Law: what may pass is for `decision_point.py` to say; here its answer is written.
"""

from __future__ import annotations

from collections.abc import Awaitable

from gateway.access.field_names import NOBODYS
from gateway.edge.admin.decision_point import DecisionPoint, Denial, Permission, Question
from gateway.edge.admin.dialects import Dialect, dialect_of
from gateway.edge.http1.date_header import date_line
from gateway.edge.http1.request_head import RequestHead
from gateway.edge.replies.problems import SERVER
from gateway.edge.replies.response_bytes import answer_bytes
from gateway.edge.server.eager import resume_in_task
from gateway.edge.server.listener import Connection, ServeResult
from gateway.edge.server.request_body import RequestBody

PREFIX = "/decide/"


class DecisionApi:
    """`server.handler.Handler` for the targets that begin with PREFIX."""

    def __init__(self, point: DecisionPoint) -> None:
        self._point = point

    def serve(self, client: Connection, head: RequestHead, body: RequestBody) -> ServeResult:
        """Meets `server.handler.Handler`: what needs no waiting is answered without a task."""
        keep = head.keeps_open and body.is_eof()
        answering = self._answer(head, client.peer.ip, keep=keep)
        try:
            awaited = answering.send(None)
        except StopIteration as completed:
            client.write(completed.value)
            return keep
        return _await_answer(client, resume_in_task(answering, awaited), keep=keep)

    async def _answer(self, head: RequestHead, peer_ip: str, *, keep: bool) -> bytes:
        dialect = dialect_of(head.target)
        question = Question(
            head,
            peer_ip,
            self._point.reader.request_id(head),
            None if dialect is None else dialect.read,
        )
        answer = await self._point.answer(question)
        if isinstance(answer, Denial):
            return _refused(answer, head, dialect, keep=keep)
        return _allowed(answer, question, dialect, keep=keep)


async def _await_answer(client: Connection, answer: Awaitable[bytes], *, keep: bool) -> bool:
    client.write(await answer)
    return keep


_ALLOWED = (
    b"HTTP/1.1 200 OK\r\nServer: %b\r\nCache-Control: no-store\r\nContent-Length: 0"
    % SERVER.encode("ascii")
)


def _allowed(
    answer: Permission, question: Question, dialect: Dialect | None, *, keep: bool
) -> bytes:
    lines = [_ALLOWED, date_line(), b"X-Request-Id: " + question.request_id.encode("ascii")]
    if not keep:
        lines.append(b"Connection: close")
    elif not question.head.minor:
        lines.append(b"Connection: keep-alive")
    lines += answer.lines
    lines += answer.limit_lines
    if dialect is not None and dialect.lists_removals:
        claimed = answer.route.claimed_headers
        gone = answer.absent() + [name for name in NOBODYS if name not in claimed]
        lines.append(b"x-envoy-auth-headers-to-remove: " + b",".join(gone))
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def _refused(answer: Denial, head: RequestHead, dialect: Dialect | None, *, keep: bool) -> bytes:
    status, headers = answer.status, answer.headers
    if dialect is not None and dialect.only_401_and_403:
        # The body of an auth_request is thrown away, and any other status becomes a 500:
        # what the client is to see travels in fields that `error_page` can use.
        headers = headers | {
            "Authgate-Status": str(status),
            "Authgate-Problem": answer.document.decode("ascii"),
        }
        status = 401 if status == 401 else 403
    return answer_bytes(status, headers, answer.document, head, keep_alive=keep)
