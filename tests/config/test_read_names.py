"""What is read of a call is read by one name: by two that are one to some backend no call would pass."""

from __future__ import annotations

import pytest

from gateway.access.snapshot import Snapshot
from tests.access.worlds import built, decide, problems, who

ALL = "policy: all\nrules: [{id: all, allow: ['*']}]"


def reading(*places: str) -> str:
    resource = "".join(f'        f{at}: "{place}"\n' for at, place in enumerate(places))
    return f"""
    - id: notes
      match: {{path: /notes}}
      policy: all
      action: create
      upstream: api
      resource:
{resource}"""


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (("{body.ownerId}", "{body.owner_id}"), "`{body.owner_id}` and `{body.ownerId}` are one field"),
        (("{body.owner}/{body.Owner}",), "`{body.owner}` and `{body.Owner}` are one field"),
        (("{body.meta.owner}", "{body.meta.Owner}"), "`{body.meta.Owner}` and `{body.meta.owner}`"),
        (("{body.meta.owner}", "{body.Meta.page}"), "`{body.Meta}` and `{body.meta}` are one field"),
    ],
)  # fmt: skip
def test_a_field_of_the_body_is_read_by_one_name(places: tuple[str, ...], said: str) -> None:
    (problem,) = problems(reading(*places), ALL)
    assert said in problem
    assert problem.startswith("routes.yaml:")


@pytest.mark.parametrize(
    "places",
    [
        ("{body.owner}", "{body.owner}"),
        ("{body.owner}", "{body.meta.owner}"),
        ("{body.meta.owner}", "{body.meta.page}"),
        ("{body.meta}", "{body.meta.owner}"),
        ("{body.owner}", "{body.owners}"),
        ("{body.owner}", "{query.Owner}", "{headers.x-owner}"),
    ],
)
def test_different_fields_are_no_problem(places: tuple[str, ...]) -> None:
    assert isinstance(built(reading(*places), ALL), Snapshot)


def test_a_header_is_read_by_one_name() -> None:
    (problem,) = problems(reading("{headers.x-team-id}", "{headers.x_team_id}"), ALL)
    assert "`resource` reads `x_team_id` beside `x-team-id`, which are one field" in problem
    rule = "policy: all\nrules: [{id: all, allow: ['*'], when: \"'x-team' in request.headers\"}]"
    (problem,) = problems(reading("{headers.x_team}"), rule)
    assert "`resource` reads `x_team` beside `x-team`" in problem
    assert isinstance(built(reading("{headers.x-team}"), rule), Snapshot)


def test_a_header_that_may_not_be_read_at_all_is_one_problem_whatever_stands_beside_it() -> None:
    """It is not to be read by the name that the backend reads, but by none."""
    (problem,) = problems(reading("{headers.x-team}", "{headers.X-Team}"), ALL)
    assert "lower case" in problem
    told = problems(reading("{headers.x-real-ip}", "{headers.x_real_ip}"), ALL)
    assert ["is no ground for a decision" in problem for problem in told] == [True, True]
    rule = "policy: all\nrules: [{id: all, allow: ['*'], when: \"'X-Team' in request.headers\"}]"
    (problem,) = problems(reading("{headers.x-team}"), rule)
    assert "lower case" in problem


def test_a_parameter_may_be_read_by_two_names_as_each_is_taken() -> None:
    world = built(reading("{query.teamId}", "{query.team_id}"), ALL)
    assert isinstance(world, Snapshot)
    for query in ("teamId=1", "team_id=1", "teamId=1&team_id=2"):
        assert decide(world, f"GET /notes?{query}", who()).allowed
