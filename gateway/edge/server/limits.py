"""What a client may take of a listener (docs/security/limits.md)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """What a client may take (SECURITY, Limits)."""

    head_bytes: int = 16_384
    fields: int = 100
    line_bytes: int = 8_192
    head_s: float = 10.0
    keepalive_s: float = 75.0
    body_idle_s: float = 30.0
    body_bytes_per_s: float = 500.0
    body_rate_window_s: float = 30.0
    own_body_s: float = 10.0
    """For the whole body of a call to an endpoint of ours, which holds 64 KiB at most."""
    stall_s: float = 60.0
    half_closed_s: float = 2.0
    """For a client that sends no more: until its answer begins, and while nothing of it comes."""
    linger_bytes: int = 65_536
    linger_s: float = 2.0
    connections: int = 10_000
    connections_of_one: int = 1_000
    """Of one IPv4 address or IPv6 /64, trusted proxies aside; 0 is no cap."""
    buffered_bytes: int = 268_435_456
    """Of all its connections together that are slow to take what is there for them."""
    slow_after_s: float = 1.0
    """Who has been slow for less is not cut, however full the buffers are."""
    evict_after_s: float = 1.0
    """Who has just come, or was just answered, has so long to speak before another may take
    its place."""
    sweep_s: float = 1.0
