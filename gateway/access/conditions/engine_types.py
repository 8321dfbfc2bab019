"""What CEL's engine makes of the types that an operator or a function is given.

It is not written down here a second time: the engine is asked, with a sample of each type.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from gateway.access.conditions.engine import cel
from gateway.access.conditions.expressions import OWN_FUNCTIONS

ANY = ""
"""The type of what only the call tells."""
RELATIONS = ("==", "!=", "<", "<=", ">", ">=", "in")
READS_LITERAL = frozenset(("matches", "timestamp", "duration", "int", "uint", "double"))
"""Functions that take some texts and fail with others."""

_SAMPLES = {
    "text": "'a'", "int": "1", "uint": "1u", "double": "1.5", "bool": "true", "null": "null",
    "list": "[1]", "map": "{'a': 1}", "bytes": "b'a'", "duration": "duration('1s')",
    "timestamp": "timestamp('2026-01-01T00:00:00Z')",
}  # fmt: skip
_TYPES: Mapping[type, str] = {
    bool: "bool", int: "int", float: "double", str: "text", bytes: "bytes", list: "list",
    dict: "map", datetime: "timestamp", timedelta: "duration", type(None): "null",
}  # fmt: skip


def _type_of(value: Any) -> str:
    return _TYPES.get(type(value), ANY)


class EngineTypes:
    """Answers of the engine, each asked for once; they live as long as one configuration is
    compiled."""

    def __init__(self) -> None:
        self._results: dict[tuple[str, str, str], str | None] = {}
        self._takes: dict[tuple[str, str | None, tuple[str, ...]], bool] = {}

    def result(self, sign: str, left: str, right: str) -> str | None:
        """The type of `left sign right`; None where the engine does not define it."""
        key = (sign, left, right)
        if key not in self._results:
            self._results[key] = _result(sign, left, right)
        return self._results[key]

    def takes(self, name: str, on: str | None, given: tuple[str, ...]) -> bool:
        """Whether the engine has this function for these types; True where one is not known."""
        if ANY in given or on == ANY or name in OWN_FUNCTIONS:
            return True
        key = (name, on, given)
        if key not in self._takes:
            self._takes[key] = _takes(name, on, given)
        return self._takes[key]


def _result(sign: str, left: str, right: str) -> str | None:
    try:
        value = cel.compile(f"{_SAMPLES[left]} {sign} {_SAMPLES[right]}").execute({})
    except Exception:  # noqa: BLE001 (the engine's errors have no common base)
        return None
    return left if left == "uint" and sign not in RELATIONS else _type_of(value)


def _takes(name: str, on: str | None, given: tuple[str, ...]) -> bool:
    if on is None and given == ("text",) and name in READS_LITERAL:
        return True  # the sample is no number and no time; another text may be
    arguments = ", ".join(_SAMPLES[one] for one in given)
    call = f"{name}({arguments})" if on is None else f"{_SAMPLES[on]}.{name}({arguments})"
    try:
        cel.compile(call).execute({})
    except Exception:  # noqa: BLE001 (as above)
        return False
    return True
