"""What a hostile JSON body costs to check: each of its parts is looked at a few times."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.routing.body_fields import fields_named, reads_alike, wraps
from gateway.access.routing.body_values import BodyValues
from gateway.access.routing.name_letters import letters_of
from gateway.access.routing.named_values import NamedValues
from gateway.access.snapshot import Snapshot
from gateway.model import Reason
from tests.access.worlds import decide, snapshot
from tests.cpu_cost import cost_ratio

DEEP = 30
"""Objects in an object of the body, which is as deep as JSON may be."""


class Counted(dict[str, Any]):
    """Counts how often such objects are looked into."""

    looks = 0

    def values(self) -> Any:
        Counted.looks += 1
        return super().values()


@pytest.mark.parametrize("beside", [{}, {"x": 1}])
@pytest.mark.parametrize("value", ["admin", 7, True, ""])
def test_an_id_within_an_id_is_looked_at_once_for_each_level(
    value: str | int, beside: dict[str, Any]
) -> None:
    """Twice at each level was 2**30 times: a body of 250 bytes held a worker for ever."""
    Counted.looks = 0
    body: object = "buyer"
    for _ in range(10):
        body = Counted({"_id": body, **beside})
    named = NamedValues([value], is_text_of_caller=False, is_ordered=False)
    assert isinstance(named.may_become(body), bool)
    assert Counted.looks <= 10


def world(*denies: str) -> Snapshot:
    rules = "".join(f"  - {{id: d{n}, deny: ['*'], when: \"{c}\"}}\n" for n, c in enumerate(denies))
    return snapshot(
        """
        - id: x
          match: {path: "/notes/{id}", methods: [POST]}
          policy: p
          auth: optional
          resource: {a: "{body.a}", b: "{body.b}"}
          upstream: api
        """,
        f"policy: p\nrules:\n  - {{id: all, allow: ['*']}}\n{rules}",
    )


def reason(where: Snapshot, body: Any) -> str:
    return decide(where, "POST /notes/7", body=body).reason


@pytest.mark.parametrize("name", ["_id", "x", "", None])
def test_a_body_as_deep_as_json_may_be_is_judged(name: str | None) -> None:
    where = world("has(resource.a) && resource.a == 'admin'")
    for bottom, told in (("buyer", Reason.RULE_ALLOWED), (" admin", Reason.BODY_MALFORMED)):
        body: object = bottom
        for _ in range(DEEP):
            body = [body] if name is None else {name: body}
        assert reason(where, {"a": body}) == told


def values_of(where: Snapshot) -> BodyValues:
    route = where.routes.get("x")
    assert route is not None
    assert route.body_values is not None
    return route.body_values


def test_what_operators_hold_is_looked_through_once_for_each_name() -> None:
    """Once for each `$` around it was 385 ms of a body of 63 KB."""
    values = values_of(world("(has(resource.a) ? resource.a : []).exists(i, i.role == 'admin')"))
    names: dict[str, Any] = {f"ro_l~e{number}(": 0 for number in range(2_000)}
    within: dict[str, Any] = names
    for _ in range(DEEP - 3):
        within = {"$a": within}
    one, many = {"a": [{"$a": names}]}, {"a": [within]}
    assert cost_ratio(lambda: values.reads_alike(many), lambda: values.reads_alike(one)) < 3


@pytest.mark.parametrize("bottom", [{"ro_le": 1}, {"x": {"ro_le": 1}}, {"x": [{"ROLE": 1}]}])
@pytest.mark.parametrize("around", ["$a", "x", "$rename"])
def test_no_depth_of_operators_hides_a_name(bottom: object, around: str) -> None:
    values = values_of(world("(has(resource.a) ? resource.a : []).exists(i, i.role == 'admin')"))
    for count in range(5):
        body = bottom
        for _ in range(count):
            body = {around: body}
        assert not values.reads_alike({"a": [body]})


def test_a_name_without_letters_is_no_field_below_an_operator() -> None:
    """Nor any other: MongoDB writes what stands there."""
    assert not reads_alike({"$set": {"": 1}}, fields_named(("_",)))


NAMES: dict[str, Any] = {f"own_er~\ufdfa.{number}[(": 0 for number in range(2_000)}


def plain_look() -> object:
    return [letters_of(name) for name in NAMES]


@pytest.mark.parametrize("body", [NAMES, {"$note": NAMES}, {"note": NAMES}, {"$x": NAMES}])
def test_an_odd_name_costs_little_more_than_to_read_its_letters(body: dict[str, Any]) -> None:
    """Ten times as much was 50 ms of one body, also of a stranger's and behind a 429."""
    fields = fields_named(("owner",))

    def checked() -> object:
        return reads_alike(body, fields) and not wraps(body, fields, {"note"})

    assert cost_ratio(checked, plain_look) < 5


@pytest.mark.parametrize(
    "inner", [{"own_er": 1}, {"owner": 1}, {"owner.x": 1}, {"$x": {"Owner": 1}}]
)
def test_an_operator_that_is_called_as_what_wraps_a_body_hides_nothing(inner: Any) -> None:
    """`wraps` leaves it to the look for other names, which is stricter."""
    fields = fields_named(("owner", "note.title", "$note.x"))
    for name in ("$note", "$no_te", "note"):
        body = {name: inner}
        assert not reads_alike(body, fields) or wraps(body, fields, {"note"})


def test_a_text_that_stands_in_a_list_many_times_is_asked_about_once() -> None:
    values = values_of(world("has(resource.a) && 7 in resource.a"))
    text = "0x\u0663\u0664_5"
    once = {"a": [text]}
    assert cost_ratio(lambda: values.reads_alike({"a": [text] * 4_000})) < 5
    assert values.reads_alike(once)
    assert not values.reads_alike({"a": [text] * 4_000 + ["0x\u0667"]})


@given(
    st.lists(
        st.text(st.sampled_from("0017_.eE+-xob a\u0667\u0663\u2003"), max_size=6)
        | st.sampled_from([7, 7.5, 6.9, True, None, [7], ["7"], {"_id": "7"}]),
        max_size=4,
    )
)
def test_of_many_values_one_becomes_what_is_named_if_it_does_alone(found: list[Any]) -> None:
    named_values: tuple[list[Any], ...] = ([7], ["7"], [7, "x"], ["admin"], [True], [0, "0"])
    for values in named_values:
        named = NamedValues(values, is_text_of_caller=False, is_ordered=False)
        assert named.may_become_one(found) is any(map(named.may_become, found))
