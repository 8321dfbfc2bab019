"""The table of refusals is docs/reasons.md, and an answer holds nothing but constants."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.replies.problems import PROBLEMS, problem, problem_bytes, problem_parts
from gateway.model import Reason

CONTRACT = {
    400: "request_malformed ambiguous_path ambiguous_query ambiguous_header host_mismatch "
    "body_malformed invalid_token",
    401: "no_credential token_malformed token_signature_invalid token_expired "
    "token_claims_invalid token_revoked token_outdated key_unknown session_unknown "
    "invalid_credentials invalid_refresh_token refresh_token_reused "
    "insufficient_user_authentication",
    403: "no_rule condition_failed insufficient_scope cross_origin csrf_invalid registration_closed"
    " email_unverified account_disabled captcha_required",
    404: "route_unknown",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "email_taken",
    413: "body_too_large",
    414: "target_too_long",
    415: "media_type_unsupported",
    422: "body_invalid weak_password",
    426: "upgrade_required",
    429: "rate_limited too_many_attempts",
    431: "header_too_large",
    500: "internal_error",
    502: "upstream_unreachable upstream_malformed",
    503: "replica_stale store_unavailable store_busy issuer_unavailable revocation_pending"
    " hashing_busy upstream_busy draining",
    504: "upstream_timeout",
}
ROWS = [(status, Reason(name)) for status, names in CONTRACT.items() for name in names.split()]
ALLOWED = {Reason.ROUTE_PUBLIC, Reason.ROUTE_OPTIONAL, Reason.SIGNED_IN, Reason.RULE_ALLOWED}


def test_every_reason_to_refuse_has_its_row() -> None:
    assert {reason for _, reason in ROWS} == set(PROBLEMS) == set(Reason) - ALLOWED


@pytest.mark.parametrize(("status", "reason"), ROWS)
def test_a_refusal_is_the_contracts(status: int, reason: Reason) -> None:
    answer = problem(reason, request_id="r-1", allow=("GET",))
    assert answer.status == status
    assert isinstance(answer.body, bytes)
    document = json.loads(answer.body)
    assert list(document) == ["type", "title", "status", "detail", "reason", "request_id"]
    assert document["reason"] == reason
    assert document["status"] == status
    assert document["request_id"] == answer.headers["X-Request-Id"] == "r-1"
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Server"] == "authgate"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Proxy-Status"].startswith("authgate; error=")
    assert ("WWW-Authenticate" in answer.headers) is (status == 401)
    assert ("Retry-After" in answer.headers) is (status in (429, 503))
    assert ("Allow" in answer.headers) is (status == 405)
    assert ("Sec-WebSocket-Version" in answer.headers) is (status == 426)


@pytest.mark.parametrize(
    ("reason", "challenge"),
    [
        (Reason.NO_CREDENTIAL, 'Bearer realm="authgate"'),
        (Reason.TOKEN_EXPIRED, 'Bearer realm="authgate", error="invalid_token"'),
        (
            Reason.INSUFFICIENT_USER_AUTHENTICATION,
            'Bearer realm="authgate", error="insufficient_user_authentication"',
        ),
    ],
)
def test_a_challenge_names_an_error_only_when_something_came(
    reason: Reason, challenge: str
) -> None:
    assert problem(reason, request_id="r").headers["WWW-Authenticate"] == challenge


@pytest.mark.parametrize(("wait_s", "said"), [(0.0, "1"), (0.2, "1"), (1.2, "2"), (900.0, "900")])
def test_retry_after_is_whole_seconds_and_never_too_early(wait_s: float, said: str) -> None:
    answer = problem(Reason.RATE_LIMITED, request_id="r", retry_after_s=wait_s)
    assert answer.headers["Retry-After"] == said


def test_hsts_is_said_on_https_only() -> None:
    name = "Strict-Transport-Security"
    assert name in problem(Reason.NO_RULE, request_id="r", https=True).headers
    assert name not in problem(Reason.NO_RULE, request_id="r").headers


def test_a_rules_own_reason_is_403_even_where_it_spells_one_of_ours() -> None:
    assert problem("token_expired", request_id="r").status == 403


def test_fields_that_are_wrong_are_listed() -> None:
    errors = [{"field": "email", "problem": "is missing"}]
    answer = problem(Reason.BODY_INVALID, request_id="r", errors=errors)
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body)["errors"] == errors


def test_the_form_in_bytes_says_the_same_and_closes() -> None:
    head, _, body = problem_bytes(Reason.HEADER_TOO_LARGE, request_id="r").partition(b"\r\n\r\n")
    answer = problem(Reason.HEADER_TOO_LARGE, request_id="r")
    assert body == answer.body
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert head.endswith(b"\r\nConnection: close")
    for name, value in answer.headers.items():
        assert f"{name}: {value}".encode() in head


@given(st.text(), st.text(), st.text())
def test_the_document_is_to_the_byte_what_json_makes_of_it(
    word: str, detail: str, request_id: str
) -> None:
    row, _, body = problem_parts(word, None, request_id, detail=detail)
    members = {
        "type": f"urn:authgate:reason:{word}",
        "title": row.title,
        "status": row.status,
        "detail": detail or row.detail,
        "reason": word,
        "request_id": request_id,
    }
    assert body == json.dumps(members).encode()
