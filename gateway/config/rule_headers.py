"""Two rules that write one field differently, where the second could never write it.

Which rules allow a call is known only of the call, and then the first in the file has the field.
What is refused here is a rule that is always behind the other: whatever it allows, that one
allows too.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.access.policies import Effect, Rule
from gateway.access.roles import matches
from gateway.access.templates import TextTemplate
from gateway.model import ConfigProblem


def check_rule_headers(rules: Iterable[Rule], problems: list[ConfigProblem]) -> None:
    """A problem for each field that a rule writes and that an earlier one always writes."""
    written: dict[str, list[tuple[Rule, TextTemplate]]] = {}
    for rule in rules:
        if rule.effect is not Effect.ALLOW or rule.shadow:
            continue
        for name, template in rule.headers:
            before = written.setdefault(name.lower(), [])
            for earlier, other in before:
                if (
                    earlier is not rule
                    and other.text != template.text
                    and _places(other) <= _places(template)
                    and _goes_before(earlier, rule)
                ):
                    text = (
                        f"rule `{rule.id}` never writes `{name}`: rule `{earlier.id}` "
                        f"({earlier.location}) writes it otherwise, and allows whatever this one "
                        "allows; leave it out of one"
                    )
                    problems.append(ConfigProblem.at(rule.location, text))
                    break
            before.append((rule, template))


def _places(template: TextTemplate) -> set[tuple[str, str]]:
    """What has to have a value for the field to be written."""
    return {(piece.source, piece.text) for piece in template.pieces if piece.source}


def _goes_before(earlier: Rule, later: Rule) -> bool:
    """Whether `earlier` allows every call that `later` allows, as far as the text tells."""
    if earlier.role_permissions:
        covers = later.role_permissions
    elif later.role_permissions:
        covers = "*" in earlier.actions
    else:
        covers = all(any(matches(p, action) for p in earlier.actions) for action in later.actions)
    if not covers:
        return False
    condition = earlier.condition
    if condition is not None and (
        later.condition is None or later.condition.source != condition.source
    ):
        return False
    return earlier.step_up is None or earlier.step_up == later.step_up
