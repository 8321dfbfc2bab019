"""Events of the audit log as a page shows them: whatever stands in a row, it is text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.audit.search import FoundEvent

_LISTS = ("heads", "cuts")
"""Hashes by the dozen: how many is enough on a page."""
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class ShownEvent:
    at: str
    kind: str
    result: str
    subject: str
    actor: str
    address: str
    request_id: str
    more: str


def shown_events(found: Iterable[FoundEvent]) -> Sequence[ShownEvent]:
    return [_shown(one.event) for one in found]


def _shown(event: Mapping[str, Any]) -> ShownEvent:
    def text(name: str) -> str:
        return _text(event.get(name, ""))

    detail = event.get("detail")
    pairs = detail.items() if isinstance(detail, dict) else ()
    return ShownEvent(
        text("at").replace("T", " ").replace("+00:00", ""),
        text("event"),
        text("result"),
        text("subject"),
        text("actor"),
        text("address"),
        text("request_id"),
        ", ".join(f"{name}={_detail(name, value)}" for name, value in pairs),
    )


def _detail(name: str, value: Any) -> str:
    return str(len(value)) if name in _LISTS and isinstance(value, list) else _text(value)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
