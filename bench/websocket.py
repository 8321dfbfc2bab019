"""The handshake of a WebSocket, as the clients and the upstreams of benches speak it."""

from __future__ import annotations

import base64
import os
from hashlib import sha1

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = b"sec-websocket-key: "
_KEY_BYTES = 24


def asking(port: int, token: str) -> bytes:
    """What a client says first."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /api/socket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


def granting(head: bytes) -> bytes:
    """How an upstream grants what `head` asks for."""
    start = head.lower().index(_KEY) + len(_KEY)
    accept = base64.b64encode(sha1(head[start : start + _KEY_BYTES] + _GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
