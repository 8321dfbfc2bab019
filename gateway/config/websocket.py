"""`websocket:` of a route and of `defaults`, read."""

from __future__ import annotations

import dataclasses
from typing import Any

from gateway.access.websocket_options import WebSocketOptions
from gateway.config.yaml_reader import Node, Reader

WEBSOCKET_KEYS = ("max_per_user", "idle", "ping", "max_frame")


PING_MIN_S = 1.0


FRAME_MIN_BYTES = 125
"""What any control frame may hold (RFC 6455 section 5.5)."""


def read_websocket_options(
    reader: Reader, node: Node | None, base: WebSocketOptions
) -> WebSocketOptions:
    """`base` with what the block says otherwise, key by key."""
    if node is None:
        return base
    fields = reader.block(node, "`websocket`", WEBSOCKET_KEYS)
    options: dict[str, Any] = {
        "max_per_user": reader.integer(fields.get("max_per_user"), "`max_per_user`"),
        "idle_s": reader.duration_s(fields.get("idle"), "`idle`"),
        "ping_s": _ping_s(reader, fields.get("ping")),
        "max_frame_bytes": _frame_bytes(reader, fields.get("max_frame")),
    }
    return dataclasses.replace(base, **{k: v for k, v in options.items() if v is not None})


def _ping_s(reader: Reader, node: Node | None) -> float | None:
    if getattr(node, "value", None) == "off":
        return 0.0
    seconds = reader.duration_s(node, "`ping`")
    if seconds is not None and node is not None and seconds < PING_MIN_S:
        reader.error(node, "`ping` is `1s` or more, or `off`")
        return None
    return seconds


def _frame_bytes(reader: Reader, node: Node | None) -> int | None:
    size = reader.size_bytes(node, "`max_frame`")
    if size is not None and node is not None and size < FRAME_MIN_BYTES:
        reader.error(node, f"`max_frame` is `{FRAME_MIN_BYTES}B` or more")
        return None
    return size
