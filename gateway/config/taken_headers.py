"""Headers that rules or the resource read, and that never reach the backend as they came.

Law: what was judged is what the backend sees.  A field that is taken from every client is no
ground for a decision, and one that says who calls even less.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.access.conditions.vocabulary import header_problem
from gateway.access.definitions import HeaderChanges
from gateway.access.field_names import KEEPABLE, folded_text
from gateway.access.policies import ResourceField, Rule
from gateway.config.written_names import WrittenNames
from gateway.config.yaml_reader import Node, Reader


@dataclass(frozen=True, slots=True)
class TakenHeaders:
    """What one route takes from its clients."""

    written: WrittenNames
    kept: frozenset[bytes]
    request: HeaderChanges | None

    def why(self, name: str) -> str | None:
        """Why a header of this name is no ground for a decision here; None where it may be."""
        known = folded_text(name)
        if known in self.written.identity:
            return "`identity_headers` writes: a client's own is never believed; use `user`"
        if known in self.kept:
            return None
        spelled = KEEPABLE.get(known.decode("ascii"))
        if spelled is None and known in self.written.routes:
            own = self.request is not None and known in self.request.folded
            spelled = None if own else name
        if spelled is None:
            return None
        return f"is taken away from every client: add `keep_headers: [{spelled}]`"


def check_taken(
    reader: Reader,
    node: Node,
    rules: tuple[Rule, ...],
    resource: tuple[ResourceField, ...],
    taken: TakenHeaders,
) -> None:
    """A header that is read and then taken away is a problem: the backend would not see it.  So is
    one that is read by two names, as neither would be the only one."""
    readers = [
        (f"rule `{rule.id}` ({rule.location})", rule.condition.reads.headers)
        for rule in rules
        if rule.condition is not None
    ]
    named = frozenset(name for one in resource for name in one.template.names("headers"))
    written: dict[bytes, str] = {}
    for who, names in (*readers, ("`resource`", named)):
        for name in sorted(names):
            if header_problem(name) is not None:
                continue  # told where it is read: it may not be, by whatever name others have
            before = written.setdefault(folded_text(name), name)
            if before != name:
                reader.error(
                    node,
                    f"{who} reads `{name}` beside `{before}`, which are one field to some backends,"
                    " so that calls with one of them would be refused: read it each time by the"
                    " name that the backend does",
                )
            why = taken.why(name)
            if why is not None:
                reader.error(node, f"{who} reads `{name}`, which {why}")
