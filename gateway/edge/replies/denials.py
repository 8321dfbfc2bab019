"""A denied call as its caller is told of it, whichever door was asked."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.access.authorizer import Decision
from gateway.edge.replies.cookies import expired_cookie
from gateway.edge.replies.problems import (
    Refusal,
    problem_parts,
    step_up_challenge,
)
from gateway.model import Call


def denial(
    call: Call, decision: Decision, request_id: str, cors: Mapping[str, str]
) -> tuple[Refusal, dict[str, str], bytes]:
    """Row, fields and body for a decision that allows nothing; `cors` are the route's fields.

    It tells of limits where one was asked, takes the cookie of a session that is over away,
    and says how to sign in.
    """
    extra = dict(cors)
    if decision.limit is not None:
        extra["RateLimit-Policy"] = decision.limit.policy
        extra["RateLimit"] = decision.limit.standing()
    if gone := expired_cookie(call, decision.reason):
        extra["Set-Cookie"] = gone[0]
    row, headers, document = problem_parts(
        decision.reason,
        decision.refusal,
        request_id,
        retry_after_s=decision.retry_after_s,
        allow=decision.allow,
        conceal=decision.conceal,
        https=call.scheme == "https",
        extra=extra,
    )
    if decision.max_age_s is not None or decision.amr:
        headers["WWW-Authenticate"] = step_up_challenge(decision.max_age_s, decision.amr)
    return row, headers, document
