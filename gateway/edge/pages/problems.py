"""What a refusal says to a person, in the visitor's language, and by which field of the form.

An endpoint's refusal is made of constants (`FieldError.problem`, the hints of weak passwords): here
each has its key in the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.edge.endpoints.endpoint import ProblemReply
from gateway.edge.endpoints.registration import BAD_INVITATION, OTHER_DOMAIN
from gateway.edge.pages.texts import Texts
from gateway.edge.replies.problems import problem_parts, problem_type
from gateway.model import Reason

_PROBLEMS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), f"field.{key}")
    for pattern, key in (
        (r"is missing|must not be empty", "missing"),
        (r"is not an address.*", "email"),
        (r"(?:It )?must hold at least (?P<n>\d+) characters\.?", "short"),
        (r"(?:It )?must hold at most (?P<n>\d+) characters\.?", "long"),
        (r"It is made of your address .*", "own_words"),
        (r"It is one of the most common passwords\.", "common"),
        (r"It stands in a list of passwords that the world knows; .*", "known"),
        (r"It is too easy to guess; .*", "guessable"),
        (r"must be printable", "printable"),
    )
)
_OTHER = "field.wrong"
_BY_DETAIL = {
    OTHER_DOMAIN.detail: "reason.other_domain",
    BAD_INVITATION.detail: "reason.bad_invitation",
}
"""Where one reason is given for more than one cause."""
_KEPT = ("Proxy-Status", "Retry-After", "WWW-Authenticate")


@dataclass(frozen=True, slots=True)
class Shown:
    """`sentence` stands above the form, `fields` beside its fields."""

    sentence: str
    fields: Mapping[str, str]


def shown(texts: Texts, reply: ProblemReply, subject: str = "") -> Shown:
    """The texts of a `subject` may have a sentence of their own for a reason."""
    fields = {
        error.field: _field_problem(texts, error.problem) for error in reply.errors if error.field
    }
    own = f"{subject}.{reply.reason}"
    return Shown(texts(own) if texts.has(own) else sentence_of(texts, reply), fields)


def sentence_of(texts: Texts, reply: ProblemReply) -> str:
    key = f"told.{reply.told}"
    if not texts.has(key):
        key = _BY_DETAIL.get(reply.detail or "", f"reason.{reply.reason}")
    if not texts.has(key):
        key = f"status.{status_of(reply.reason)}"
    if not texts.has(key):
        key = "status.other"
    return texts(key, wait=texts.duration(reply.retry_after_s))


def status_of(reason: Reason) -> int:
    return problem_type(reason).status


def headers_of(reply: ProblemReply, request_id: str) -> dict[str, str]:
    """What the page says to programs, as the problem does that it stands for."""
    _, headers, _ = problem_parts(reply.reason, None, request_id, retry_after_s=reply.retry_after_s)
    return {name: headers[name] for name in _KEPT if name in headers}


def _field_problem(texts: Texts, problem: str) -> str:
    for pattern, key in _PROBLEMS:
        matched = pattern.fullmatch(problem)
        if matched is not None:
            return texts(key, **matched.groupdict())
    return texts(_OTHER)
