"""The listener of Envoy's external authorization: `envoy.service.auth.v3.Authorization/Check`.

Law: every message is answered with a decision, also one that nobody can read; an error of gRPC
comes only where there is no room for the call.  Connections, calls at once, sizes and time are
bounded, of peers that say nothing too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote

import grpc
import grpc.aio
import structlog

from gateway.access.routing.hosts import plain_ip
from gateway.bounded_memo import BoundedMemo
from gateway.edge.admin.decision_point import DecisionPoint, Permission, Question
from gateway.edge.admin.dialects import Unreadable
from gateway.edge.ext_authz.check_request import CheckedCall, read_check, unread_head
from gateway.edge.ext_authz.check_response import ResponseWriter, denied
from gateway.edge.http1.request_head import HeadLimits, RequestHeadReader
from gateway.edge.server.listener_tls import Certificates
from gateway.model import Reason
from gateway.telemetry.metrics import Tally

log = structlog.get_logger(__name__)

SERVICE = "envoy.service.auth.v3.Authorization"
HEALTH = "grpc.health.v1.Health"

MESSAGE_BYTES_MAX = 262_144
"""Envoy takes heads of 60 KiB at most, and 64 KiB of a body are read by a policy."""
CALLS_MAX = 1_000
"""At once, in one worker."""
CONNECTION_CALLS_MAX = 250
"""Of those, on one connection."""
CONNECTIONS_MAX = 512
"""Of one worker: an Envoy keeps one for each of its threads.  What is more is closed unread."""
METADATA_BYTES_MAX = 16_384
DECIDE_S = 10.0
"""A call is refused then, also one that has begun and sends no message, and whatever deadline its
asker sets."""
HANDSHAKE_S = 10
"""For TLS and for the first frame of HTTP/2, which is a client's to send (RFC 9113 section 3.4)."""
CONNECTION_IDLE_S = 120
CONNECTION_AGE_S = 300
"""An Envoy is told to open another connection now and then, so that workers that were begun later
get their share."""
AGE_GRACE_S = 15
"""For what goes on on a connection that is to end: longer than any decision."""
PING_S, PONG_S = 60, 20
"""How often a peer is asked whether it is there, and for how long."""

REMARK_EACH_S = 60
"""How often a peer that ends its calls is told of: what it does fills no log."""

_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"


class CallContext(Protocol):
    """What is used of `grpc.aio.ServicerContext`."""

    def peer(self) -> str: ...

    async def read(self) -> object:
        """A message, as bytes; something else where none comes any more."""


class _GrpcRemarks(logging.Handler):
    """What gRPC has to say.  Whenever a peer ends a call that is being answered, that is an error
    with a traceback: the log has it in one line, and not more often than REMARK_EACH_S.  The rest
    goes where it would have gone."""

    def __init__(self) -> None:
        super().__init__()
        self._next_at = 0.0

    def heard(self) -> None:
        library = logging.getLogger("grpc")
        library.addHandler(self)  # no second time
        library.propagate = False
        self._next_at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        # Of what could not be sent or received: our handlers raise nothing.
        if isinstance(error, grpc.aio.InternalError):
            if record.created < self._next_at:
                return
            self._next_at = record.created + REMARK_EACH_S
            told = {**record.__dict__, "exc_info": None, "exc_text": None}
            told |= {"levelno": logging.WARNING, "levelname": "WARNING"}
            record = logging.makeLogRecord(told)
        logging.getLogger().handle(record)


_remarks = _GrpcRemarks()


class ExtAuthzServer:
    """Made after the worker's fork: gRPC does not survive one."""

    def __init__(
        self,
        point: DecisionPoint,
        *,
        ready: Callable[[], bool],
        defects: Tally,
        connections: int = CONNECTIONS_MAX,
        limits: HeadLimits | None = None,
    ) -> None:
        """`ready`: whether calls should be sent here, for who checks its health."""
        self._point = point
        self._ready = ready
        self._defects = defects
        self._heads = RequestHeadReader(limits)
        self._responses = ResponseWriter()
        self._peers: BoundedMemo[str, str] = BoundedMemo(1_024)
        self._server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ("grpc.max_metadata_size", METADATA_BYTES_MAX),
                ("grpc.max_concurrent_streams", CONNECTION_CALLS_MAX),
                ("grpc.max_allowed_incoming_connections", connections),
                ("grpc.server_handshake_timeout_ms", HANDSHAKE_S * 1000),
                # What is small on the wire stays small here.
                ("grpc.compression_enabled_algorithms_bitset", 1),
                ("grpc.max_connection_idle_ms", CONNECTION_IDLE_S * 1000),
                ("grpc.max_connection_age_ms", CONNECTION_AGE_S * 1000),
                ("grpc.max_connection_age_grace_ms", AGE_GRACE_S * 1000),
                ("grpc.keepalive_time_ms", PING_S * 1000),
                ("grpc.keepalive_timeout_ms", PONG_S * 1000),
            ),
            maximum_concurrent_rpcs=CALLS_MAX,
        )
        # A message of a unary handler is waited for by gRPC, for as long as it likes.
        check: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(
            self._check
        )
        health: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(
            self._health
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, {"Check": check}),
                grpc.method_handlers_generic_handler(HEALTH, {"Check": health}),
            )
        )

    async def start(self, address: str, certificates: Certificates | None = None) -> None:
        """RuntimeError where the address cannot be listened at."""
        _remarks.heard()
        if certificates is None:
            self._server.add_insecure_port(address)
        else:
            self._server.add_secure_port(address, _credentials(certificates))
        await self._server.start()

    async def stop(self, within_s: float) -> None:
        """No call is taken any more; those that have begun have so long to end."""
        await self._server.stop(within_s)

    async def _check(self, messages: object, context: CallContext) -> bytes:
        """No `deserializer` of gRPC: what it cannot read it answers with a traceback in the log."""
        del messages
        request_id = self._point.reader.new_request_id()
        question = Question(unread_head(), self._peer_ip(context.peer()), request_id, None)
        if not self._point.trusts(question.peer_ip):
            return denied(self._point.refused(question, Reason.NO_RULE), request_id)
        try:
            async with asyncio.timeout(DECIDE_S):
                try:
                    message = await context.read()
                except grpc.aio.BaseError:
                    message = None  # the listener has stopped: nobody hears the answer
                # A call that ends without a message brings an empty one.
                message = message if isinstance(message, bytes) else b""
                return await self._answer(message, question)
        except TimeoutError:
            return denied(self._point.refused(question, Reason.STORE_BUSY), question.request_id)
        except Exception as error:
            log.error("request-failed", request_id=question.request_id, exc_info=error)
            self._defects.n += 1
            denial = self._point.refused(question, Reason.INTERNAL_ERROR)
            return denied(denial, question.request_id)

    async def _answer(self, message: bytes, question: Question) -> bytes:
        checked = read_check(message, self._heads)
        if isinstance(checked, CheckedCall):
            question.head, question.body = checked.head, checked.body
            question.request_id = self._point.reader.request_id(checked.head)
            question.read = checked.original
            answer = await self._point.answer(question)
            if isinstance(answer, Permission):
                return self._responses.allowed(answer, checked, question.request_id)
        elif isinstance(checked, Unreadable):
            answer = self._point.refused(question, Reason.REQUEST_MALFORMED, checked.detail)
        else:
            answer = self._point.refused(question, checked)
        return denied(answer, question.request_id)

    async def _health(self, messages: object, context: CallContext) -> bytes:
        """The health checking protocol of gRPC, for the whole server whichever service is named."""
        del messages, context
        return _SERVING if self._ready() else _NOT_SERVING

    def _peer_ip(self, peer: str) -> str:
        """`ipv4:127.0.0.1:5000` and `ipv6:%5B::1%5D:5000` as the address alone; that of nobody
        for what is none."""
        ip = self._peers.get(peer)
        if ip is None:
            address = unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]")
            ip = plain_ip(address.partition("%")[0]) or "0.0.0.0"  # noqa: S104 (as `CallReader`)
            self._peers.keep(peer, ip)
        return ip


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Each handshake takes what is current at that moment, as on the public listener."""
    shown = certificates.pem

    def current() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        if certificates.pem is shown:
            return None
        shown = certificates.pem
        return grpc.ssl_server_certificate_configuration([shown])

    first = grpc.ssl_server_certificate_configuration([shown])
    # None means: no other than before.
    return grpc.dynamic_ssl_server_credentials(first, current)  # type: ignore[arg-type]
