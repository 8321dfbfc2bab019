"""The fields of objects that have slots, on both builds."""

from __future__ import annotations

from collections.abc import Sequence


def slots_of(kind: type) -> Sequence[str]:
    """Of this class alone, as it names them; a compiled one has them, and says so elsewhere."""
    named: Sequence[str] | None = getattr(kind, "__slots__", None)
    return kind.__dict__["__mypyc_attrs__"] if named is None else named
