"""What a route names besides a policy, as the edge and `gateway diff` read it."""

from __future__ import annotations

import pytest

from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.definitions import DirectResponse, HeaderChanges, Limit, LimitKey
from gateway.access.renames import renamed_setting
from gateway.access.secret_text import SecretText
from gateway.access.suggestions import suggestion


def limit(key: LimitKey, by: str | None = None) -> Limit:
    expression = None if by is None else ConditionCompiler().compile(by, truth=False)
    assert expression is None or isinstance(expression, Condition)
    return Limit("l", key, 1.0, 2, expression=expression)


def test_a_limit_of_each_route_counts_for_one_and_any_other_for_all() -> None:
    assert limit(LimitKey.ROUTE).for_route("a").route_id == "a"
    assert limit(LimitKey.ROUTE).for_route("a").burst == 2
    shared = limit(LimitKey.USER)
    assert shared.for_route("a") is shared


@pytest.mark.parametrize(
    ("by", "by_resource"),
    [
        (None, False),
        ("user.id", False),
        ("request.query.x", False),
        ("request.params.x", True),
        ("resource.x", True),
        ("user.id + resource.x", True),
    ],
)
def test_a_limit_is_by_the_resource_where_its_key_reads_it(
    by: str | None, by_resource: bool
) -> None:
    assert limit(LimitKey.EXPRESSION, by).by_resource is by_resource


def test_what_a_route_writes_is_rendered_once_and_takes_what_came_under_its_names() -> None:
    changes = HeaderChanges((("X-A", "1"), ("X_Key", SecretText("k"))), ("X-Gone",))
    assert changes.lines == b"X-A: 1\r\nX_Key: k"
    assert changes.names == {b"x-a", b"x_key", b"x-gone"}
    assert changes.folded == {b"x-a", b"x-key", b"x-gone"}
    assert HeaderChanges().lines == b""


@pytest.mark.parametrize(
    ("response", "query", "leads_to", "shown"),
    [
        (DirectResponse(204), "a=1", None, "204"),
        (DirectResponse(204, keep_query=True), "a=1", None, "204 and the query"),
        (DirectResponse(302, location="/b"), "a=1", "/b", "302 to /b"),
        (
            DirectResponse(302, location="/b", keep_query=True), "a=1", "/b?a=1",
            "302 to /b and the query",
        ),
        (
            DirectResponse(302, location="/b", keep_query=True), "", "/b",
            "302 to /b and the query",
        ),
        (
            DirectResponse(302, location="/b?c", keep_query=True), "a=1", "/b?c&a=1",
            "302 to /b?c and the query",
        ),
    ],
)  # fmt: skip
def test_a_redirect_leads_where_it_was_written_with_the_query_where_that_is_kept(
    response: DirectResponse, query: str, leads_to: str | None, shown: str
) -> None:
    assert response.leads_to(query) == leads_to
    assert str(response) == shown


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("polcy", ["policy", "upstream"], "; did you mean `policy`?"),
        ("xyz", ["policy", "upstream"], "; there is `policy`, `upstream`"),
        ("xyz", [], ""),
        ("xyz", range(12), "; there is " + ", ".join(f"`{n}`" for n in range(12))),
        ("xyz", range(13), ""),
        ("3", [31], "; did you mean `31`?"),
        (
            "respond",
            ["response", "direct_response"],
            "; renamed to `direct_response` in 0.1; `gateway config migrate` writes it",
        ),
        ("respond", ["response"], "; did you mean `response`?"),
        ("abcdef", ["abcxyz"], "; there is `abcxyz`"),
        ("abcdef", ["abcdyz"], "; did you mean `abcdyz`?"),
        ("abcde", ["abcxy"], "; did you mean `abcxy`?"),
    ],
)
def test_what_was_meant_is_guessed_or_what_there_is_is_named(
    word: str, known: object, said: str
) -> None:
    assert suggestion(word, known) == said


def test_what_became_of_a_setting_is_known_by_its_old_name_alone() -> None:
    found = renamed_setting("GATEWAY_AUDIT_KEEP_DAYS")
    assert found is not None
    assert found.new == "GATEWAY_AUDIT_RETENTION_DAYS"
    for name in ("GATEWAY_AUDIT_RETENTION_DAYS", "respond", ""):
        assert renamed_setting(name) is None


def test_a_secret_shows_itself_to_nothing() -> None:
    secret = SecretText("a")
    assert (str(secret), repr(secret), f"{secret}") == ("***",) * 3
    assert secret.reveal() == "a"
    assert secret.with_prefix("b ").reveal() == "b a"


def test_a_secret_is_equal_to_the_same_secret_alone() -> None:
    assert SecretText("a") == SecretText("a")
    assert SecretText("a") != SecretText("b")
    assert SecretText("a") != "a"
    assert len({SecretText("a"), SecretText("a"), SecretText("b")}) == 2
    assert len({hash("a"), hash(SecretText("a")), hash(SecretText("b"))}) == 3


def test_a_secret_is_written_to_nothing() -> None:
    with pytest.raises(TypeError):
        SecretText("a").__reduce__()
