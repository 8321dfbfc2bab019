"""What a refusal tells the client of how it may get in, on a resource of OAuth and elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.access.authorizer import Decision
from gateway.access.definitions import Challenge, ChallengeScheme
from gateway.access.issuers import ResourceServer
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.routes import PatternSegment, Route, SegmentKind
from gateway.access.simulation import SimulatedRequest, simulated_call
from gateway.edge.replies.challenges import ResourceChallenge, sign_in_challenge
from gateway.edge.replies.denials import render_denial
from gateway.edge.replies.problems import problem_parts
from gateway.model import Call, Reason

PUBLIC = "https://gate.example:8443"
METADATA = f"{PUBLIC}/.well-known/oauth-protected-resource/mcp"
SERVER = ResourceServer("/mcp", ("https://id.example",), ("tools:call", "tools:list"))
ROUTE = Route(
    id="mcp",
    hosts=(),
    pattern="/mcp",
    segments=(PatternSegment(SegmentKind.LITERAL, "mcp"),),
    resource_server=SERVER,
)


def denied(
    reason: Reason, route: Route = ROUTE, *, host: str = "gate.example", **more: object
) -> tuple[int, str | None, dict[str, object]]:
    """Status, challenge and problem of a refusal."""
    call = simulated_call(SimulatedRequest("GET", "/mcp", Reason.NO_CREDENTIAL, [("Host", host)]))
    assert isinstance(call, Call)
    decision = replace(Decision(False, reason, reason, route), **more)  # type: ignore[arg-type]
    row, headers, body = render_denial(call, decision, "r", {}, OwnOrigins(PUBLIC))
    return row.status, headers.get("WWW-Authenticate"), json.loads(body)


def test_a_resource_names_its_metadata_and_scopes() -> None:
    status, challenge, _ = denied(Reason.NO_CREDENTIAL)
    assert status == 401
    assert challenge == (
        f'Bearer realm="authgate", scope="tools:call tools:list", resource_metadata="{METADATA}"'
    )


@pytest.mark.parametrize("reason", [Reason.TOKEN_EXPIRED, Reason.TOKEN_CLAIMS_INVALID])
def test_a_token_that_is_not_good_is_told_so_besides(reason: Reason) -> None:
    _, challenge, _ = denied(reason)
    assert challenge is not None
    assert challenge.startswith('Bearer realm="authgate", error="invalid_token", scope=')
    assert challenge.endswith(f'resource_metadata="{METADATA}"')


def test_who_lacks_scopes_is_told_which_and_what_is_asked_for() -> None:
    status, challenge, problem = denied(Reason.INSUFFICIENT_SCOPE, lacking_scopes=("tools:list",))
    assert status == 403
    assert challenge == (
        'Bearer realm="authgate", error="insufficient_scope", scope="tools:call tools:list", '
        f'resource_metadata="{METADATA}"'
    )
    assert problem["missing_scopes"] == ["tools:list"]
    assert "lacks scopes" in str(problem["detail"])


def test_a_stronger_sign_in_is_asked_for_at_the_same_place() -> None:
    reason = Reason.INSUFFICIENT_USER_AUTHENTICATION
    _, challenge, _ = denied(reason, max_age_s=300, amr=("mfa",))
    assert challenge == (
        'Bearer realm="authgate", error="insufficient_user_authentication", acr_values="mfa", '
        f'max_age="300", scope="tools:call tools:list", resource_metadata="{METADATA}"'
    )


@pytest.mark.parametrize("reason", [Reason.NO_RULE, Reason.RATE_LIMITED, Reason.ISSUER_UNAVAILABLE])
def test_no_other_refusal_has_a_challenge(reason: Reason) -> None:
    _, challenge, problem = denied(reason)
    assert challenge is None
    assert "missing_scopes" not in problem


@pytest.mark.parametrize("reason", [Reason.NO_CREDENTIAL, Reason.TOKEN_REVOKED])
def test_a_route_that_is_no_resource_names_no_metadata(reason: Reason) -> None:
    _, challenge, _ = denied(reason, replace(ROUTE, resource_server=None))
    assert challenge is not None
    assert "resource_metadata" not in challenge
    assert "scope" not in challenge


def test_who_is_not_to_know_of_the_route_is_told_nothing() -> None:
    lacking = ("tools:call",)
    status, challenge, problem = denied(
        Reason.INSUFFICIENT_SCOPE, lacking_scopes=lacking, conceal=True
    )
    assert (status, challenge) == (404, None)
    assert "missing_scopes" not in problem


@pytest.mark.parametrize(
    ("path", "hosts", "host", "metadata"),
    [
        ("/", (), "gate.example", PUBLIC + "/.well-known/oauth-protected-resource"),
        ("/mcp", (), "other.example", METADATA),
        ("/mcp", ("app.example",), "app.example",
         "https://app.example:8443/.well-known/oauth-protected-resource/mcp"),
        ("/mcp/x/", ("*.app.example",), "a.app.example",
         "https://a.app.example:8443/.well-known/oauth-protected-resource/mcp/x/"),
    ],
)  # fmt: skip
def test_the_metadata_stand_between_host_and_path_of_the_resource(
    path: str, hosts: tuple[str, ...], host: str, metadata: str
) -> None:
    route = replace(ROUTE, hosts=hosts, resource_server=replace(SERVER, path=path, scopes=()))
    _, challenge, _ = denied(Reason.NO_CREDENTIAL, route, host=host)
    assert challenge == f'Bearer realm="authgate", resource_metadata="{metadata}"'


def test_a_resource_asks_for_no_password() -> None:
    basic = Challenge(ChallengeScheme.BASIC, "Tools")
    resource = ResourceChallenge(METADATA, ())
    assert sign_in_challenge(Reason.NO_CREDENTIAL, basic, resource) == (
        f'Bearer realm="Tools", resource_metadata="{METADATA}"'
    )
    assert sign_in_challenge(Reason.NO_CREDENTIAL, basic) == 'Basic realm="Tools", charset="UTF-8"'


def test_a_rule_that_spells_the_reason_makes_no_challenge() -> None:
    resource = ResourceChallenge(METADATA, ("tools:call",))
    _, headers, _ = problem_parts("insufficient_scope", None, "r", resource=resource)
    assert "WWW-Authenticate" not in headers
