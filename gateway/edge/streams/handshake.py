"""WebSocket handshakes: who may open a tunnel, and whether the upstream granted it.

Law: a tunnel opens only for a handshake (RFC 6455 section 4.1) of version 13 that was allowed
like any other call, and only when the upstream granted it with a 101 that answers the very key
that was sent.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha1
from typing import TYPE_CHECKING

from gateway.access.conditions.context import NO_RESOURCE
from gateway.edge.http1.grammar import tokens
from gateway.edge.streams.tunnel import Tunnel
from gateway.model import OWN_ISSUER, Credential
from gateway.rate_limit.keys import by_user

if TYPE_CHECKING:
    from gateway.access.authorizer import Decision
    from gateway.edge.http1.request_head import RequestHead
    from gateway.edge.http1.response_head import Head
    from gateway.edge.server.connection import Connection
    from gateway.edge.streams.reevaluation import Reevaluation
    from gateway.edge.streams.registry import LongLivedRequests
    from gateway.edge.streams.socket_quota import Slot
    from gateway.edge.upstream.protocols import UpgradedConnection
    from gateway.model import Call

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = b"sec-websocket-version:"
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")


def handshake_key(head: RequestHead) -> bytes | None:
    """The key of a whole handshake; None for what is passed on as the plain call it is.

    RFC 9110 section 7.8: a server may ignore an `Upgrade`, and must where `Connection` does
    not name it or the client speaks 1.0.
    """
    if head.upgrade is None or head.upgrade.lower() != b"websocket":
        return None
    if head.method != "GET" or not head.minor or head.has_body:
        return None
    if head.connection is None or b"upgrade" not in head.connection:
        return None
    keys = _values(head, b"sec-websocket-key:")
    return keys[0] if len(keys) == 1 and _KEY.fullmatch(keys[0]) else None


def of_another_version(head: RequestHead) -> bool:
    """A handshake that asks for anything but version 13, once (RFC 6455 section 4.2.1)."""
    return handshake_key(head) is not None and _values(head, _VERSION) != [b"13"]


def _values(head: RequestHead, field: bytes) -> list[bytes]:
    """The values of a field, whose name is given in lower case and with its colon."""
    size = len(field)
    return [line[size:].strip(b" \t") for line in head.lines if line[:size].lower() == field]


def grants(head: Head, key: bytes) -> bool:
    """Whether a 101 is the answer to a handshake with `key` (RFC 6455 section 4.1)."""
    # SHA-1 is the RFC's own; there is no secret in it.
    accept = b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
    accepts = head.values(b"sec-websocket-accept")
    upgrade = head.values(b"upgrade")
    options = [token for value in head.values(b"connection") for token in tokens(value)]
    return (
        head.minor == 1
        and accepts == [accept]
        and len(upgrade) == 1
        and upgrade[0].lower() == b"websocket"
        and b"upgrade" in options
    )


class Handshake:
    """One that was allowed; `tunnel` is None until the upstream has granted it."""

    __slots__ = ("_call", "_decision", "_key", "_long_lived", "_reevaluation", "tunnel")

    def __init__(
        self,
        key: bytes,
        call: Call,
        decision: Decision,
        reevaluation: Reevaluation | None,
        long_lived: LongLivedRequests,
    ) -> None:
        self._key = key
        self._call = call
        self._decision = decision
        self._reevaluation = reevaluation
        self._long_lived = long_lived
        self.tunnel: Tunnel | None = None

    def acquire_slot(self) -> Slot | None:
        """A slot of its caller's quota, to be released once it has ended; None where as many
        sockets are open as the route lets one caller have."""
        route, principal = self._decision.route, self._decision.principal
        assert route is not None
        key = (route.id, by_user(self._call, principal, NO_RESOURCE))
        return self._long_lived.socket_quota.acquire(key, route.websocket.max_per_user)

    def granted_by(self, head: Head) -> bool:
        return grants(head, self._key)

    def open(self, client: Connection, upstream: UpgradedConnection, initial_data: bytes) -> None:
        """The 101 was written to the client; `initial_data` is what came behind it."""
        transport, target = upstream.detach()
        route = self._decision.route
        assert route is not None
        self.tunnel = Tunnel(
            client,
            transport,
            target,
            options=route.websocket,
            principal=self._decision.principal,
            holder=self._call.client_ip,
            long_lived=self._long_lived,
        )
        self.tunnel.reevaluation = self._reevaluation
        credential, principal = self._call.credential, self._decision.principal
        if isinstance(credential, Credential) and principal and principal.issuer != OWN_ISSUER:
            self.tunnel.credential_text = credential.text
            self.tunnel.client_ip = self._call.client_ip
        self.tunnel.open(initial_data)
