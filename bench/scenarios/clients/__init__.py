"""Programs that send what wrk cannot: each prints one line that begins with RESULT, as wrk does."""

from __future__ import annotations

import json


def result(took_s: float, seconds: list[float], *, refused: int = 0, broken: int = 0) -> str:
    """`seconds` is how long each exchange took."""
    ordered = sorted(seconds) or [0.0]

    def at(share: float) -> float:
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1e6

    said = {
        "requests": len(seconds),
        "duration_us": took_s * 1e6,
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
        "refused": refused,
        "broken": broken,
    }
    return f"RESULT {json.dumps(said)}"
