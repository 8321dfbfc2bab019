"""Libraries that bring others along where those are installed, imported without them.

structlog brings rich, for tracebacks on a terminal: ours are text before it sees them.  redis
brings the SDK of OpenTelemetry, for metrics of its own that nobody switches on.  Both go on
without, as they do where there is none; in each process of a gateway that is 5 MB.
"""

from __future__ import annotations

import importlib
import sys


def import_lean() -> None:
    """Before anything of what a gateway that serves is made of is imported."""
    _import_without("structlog", "rich")
    _import_without("redis.asyncio", "opentelemetry")


def _import_without(library: str, other: str) -> None:
    if library in sys.modules or other in sys.modules:
        return
    absent: dict[str, None] = {other: None}
    # A name that leads to None cannot be imported (Python reference, section 5.3.1).
    sys.modules.update(absent)  # type: ignore[arg-type]
    try:
        importlib.import_module(library)
    finally:
        del sys.modules[other]
