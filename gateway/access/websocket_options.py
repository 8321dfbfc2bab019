"""What a route asks of the WebSockets it lets in: `websocket:`, on a route and in `defaults`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    max_per_user: int = 0
    """Open at once on one route in one worker, for each subject, or each address where nobody
    is signed in; 0 is without a limit."""
    idle_s: float | None = None
    """Silence of both peers; None is `timeout: {idle: …}` of the upstream."""
    ping_s: float = 30.0
    """Silence of one peer until it is asked for a sign of life, and from then until it is given
    up; 0.0 never asks."""
    max_frame_bytes: int = 1_048_576
    """Of a client's frame; what an upstream sends is its own affair."""


DEFAULT_WEBSOCKET_OPTIONS = WebSocketOptions()
