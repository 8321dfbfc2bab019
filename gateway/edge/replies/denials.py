"""The answer to a denied call, whichever listener was asked."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.access.authorizer import Decision
from gateway.access.definitions import DEFAULT_CHALLENGE
from gateway.access.routing.csrf import OwnOrigins
from gateway.edge.replies.challenges import resource_challenge, step_up_challenge
from gateway.edge.replies.cookies import expired_cookie
from gateway.edge.replies.problems import ProblemType, problem_parts
from gateway.edge.replies.uncounted import uncounted
from gateway.model import Call, Reason


def render_denial(
    call: Call,
    decision: Decision,
    request_id: str,
    cors_headers: Mapping[str, str],
    origins: OwnOrigins,
) -> tuple[ProblemType, dict[str, str], bytes]:
    """Row, fields and body for a decision that allows nothing; `cors_headers` are the route's.

    It tells of limits where one was asked, takes the cookie of a session that is over away,
    and says how to sign in, or whom to ask for a token.
    """
    extra_headers = dict(cors_headers)
    if decision.limit is not None:
        extra_headers["RateLimit-Policy"] = decision.limit.policy
        extra_headers["RateLimit"] = decision.limit.standing()
    if deletion := expired_cookie(call, decision.reason):
        extra_headers["Set-Cookie"] = deletion[0]
    detail, route, resource, challenge = None, decision.route, None, DEFAULT_CHALLENGE
    if route is not None:
        if decision.refusal is Reason.NO_CREDENTIAL:
            detail = uncounted(call, route.accept)
        challenge = route.challenge
        resource = resource_challenge(route, call, origins, decision.lacking_scopes)
    problem, headers, document = problem_parts(
        decision.reason,
        decision.refusal,
        request_id,
        detail=detail,
        retry_after_s=decision.retry_after_s,
        allow=decision.allow,
        conceal=decision.conceal,
        https=call.scheme == "https",
        extra_headers=extra_headers,
        challenge=challenge,
        resource=resource,
    )
    if decision.max_age_s is not None or decision.amr:
        headers["WWW-Authenticate"] = step_up_challenge(
            decision.max_age_s, decision.amr, challenge, resource
        )
    return problem, headers, document
