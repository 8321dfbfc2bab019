"""What a backend may take for a field of a JSON body stands under the name that a policy reads."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.routing.body_fields import (
    engine_takes,
    field_at,
    fields_named,
    reads_alike,
    wraps,
)

PATHS = ("team", "meta.owner.id")
BODY = {"team": "a", "meta": {"owner": {"id": "u1"}}}


@pytest.mark.parametrize(
    "other",
    [
        # What a parser makes the same that translates `ownerId` to `owner_id`.
        {"te_am": "b"},
        {"te-am": "b"},
        {"_Team": "b"},
        {"META": {}},
        # What camelCase of lodash does, camelcase-keys or humps.
        {"te am": "b"},
        {" team": "b"},
        {"team ": "b"},
        {"\tteam": "b"},
        {"\ufeffteam\xa0": "b"},
        {"te.am": "b"},
        {".team": "b"},
        {"team!": "b"},
        {"$team": "b"},
        {"$team": {}},
        {"$-te.am": "b"},
        {"@team": "b"},
        {"(team)": "b"},
        {"team/": "b"},
        {"te'am": "b"},
        {"'team'": "b"},
        {"te\\am": "b"},
        {"te\x00am": "b"},
        # A parser in C (json-c) ends a name where it says NUL.
        {"team\x00x": "b"},
        {"x\x00team": "b"},
        {"$set": {"team\x00x": "b"}},
        {"team]": "b"},
        {"]team": "b"},
        {"-[team]": "b"},
        {"te[am]": "b"},
        {"t\xe9am": "b"},
        {"te\u0301\u0300am": "b"},
        {"t\xe9\xe4m": "b"},
        {"\u0167e\xe5m": "b"},
        {"\uff34eam": "b"},
        {"$rename": {"page": "$team"}},
        # Rails takes a part of a date, or of a time, for what stands before the bracket.
        {"team(1i)": "b"},
        {"te_am(1i)": "b", "te_am(2i)": "b"},
        {"Team(": "b"},
        {"team (x)(y)": "b"},
        {"meta(1i)": {}},
        {"$set": {"team(1i)": "b"}},
        # MongoDB and lodash take them for a field of a field, or for what holds it.
        {"meta.owner": {}},
        {"meta.owner.id": "u2"},
        {"Meta.Own-er.ID": "u2"},
        {"meta.owner.id.x": 1},
        {"team.x": 1},
        {"meta[owner]": {}},
        {"meta[owner][id]": "u2"},
        {"meta['owner']['id']": "u2"},
        {'meta["owner"].id': "u2"},
        # So does `set` of lodash with brackets before a name, or one that nothing opens.
        {"[team]": "b"},
        {'["team"]': "b"},
        {"['team']": "b"},
        {'["te\\am"]': "b"},
        {"[TEAM].x": 1},
        {"[.team]": "b"},
        {"].team": "b"},
        {"team].x": 1},
        {"]team[x]": 1},
        {"[meta]": {}},
        {"[meta].owner": {}},
        {"[meta][owner]": {}},
        {"[meta]owner": {}},
        {"[meta.owner]": {}},
        {"['meta']['owner'].id": "u2"},
        {"meta.owner]": {}},
        {"meta]owner.id": "u2"},
        # An operator of MongoDB sets them.
        {"$set": {"team": "b"}},
        {"$set": {"page": 1, "meta.owner.id": "u2"}},
        {"$set": {"meta": {}}},
        {"$a": {"$b": {"TEAM": "b"}}},
        {"$ref": 1, "$set": {"team": "b"}},
        {"$set": {"page": 1}, "team.x": 1},
        {"$set": {"[meta][owner]": {}}},
        # Its `$rename` moves another field there.
        {"$rename": {"page": "team"}},
        {"$rename": {"page": "Meta"}},
        {"$rename": {"page": "meta.owner"}},
        {"$rename": {"a": 1, "b": "c", "page": "meta.owner.id.x"}},
        {"$a": {"$rename": {"page": "team"}}},
        {"$rename": {"team": "page"}},
        # What all objects have of it, or this one.
        {"__proto__": {}},
        {"page": 1, "__proto__": {}},
        {"$set": {"__proto__": {}}},
        {"__proto__.team": "b"},
        {"['__proto__'].team": "b"},
        {"constructor": {"prototype": {"team": "b"}}},
        {"constructor.prototype.team": "b"},
        {"[constructor][prototype]": {}},
    ],
)
def test_what_leads_to_a_field_by_another_name_is_refused(other: dict[str, object]) -> None:
    assert not reads_alike(BODY | other, fields_named(PATHS))
    assert not reads_alike(other, fields_named(PATHS))


@pytest.mark.parametrize(
    "other",
    [{"own-er": {}}, {"owner.id": "u2"}, {"owner[id]": "u2"}, {"$set": {"owner": 1}},
     {"$set": {"owner.id": 1}}, {"__proto__": {}}, {"owner": {"ID": "u2"}},
     {"owner": {"id": "u1", "id.x": 1}}, {"owner": {"$set": {"id": "u2"}}}, {"[owner]": {}},
     {"[owner].id": "u2"}, {"owner": {"id": "u1", "['id']": "u2"}}, {"$rename": {"x": "owner"}},
     {"$rename": {"x": "owner.id"}}, {"owner": {"constructor": {"prototype": {}}}},
     {"owner(1i)": "u2"}, {"owner": {"id": "u1", "id(1i)": "u2"}}],
)  # fmt: skip
def test_what_leads_to_the_rest_of_a_path_is_refused_within(other: dict[str, object]) -> None:
    assert not reads_alike({"meta": {"owner": {"id": "u1"}} | other}, fields_named(PATHS))
    assert reads_alike(BODY | {"page": other}, fields_named(PATHS))


@pytest.mark.parametrize(
    "other",
    [
        {"id": 1, "owner": {}, "owner.id": 1, "meta.id": 1, "metas": 1, "teams": 1, "x.team": 1},
        {"meta.owners": 1, "meta.own": 1, "meta[x]owner": 1, "x[meta.owner]": 1, "metaowner": 1},
        {"[id]": 1, "[owner]": 1, "[meta].id": 1, "[x][team]": 1, "[teams]": 1, "[x]team": 1},
        {"[": 1, "]": 1, "[]": 1, "['']": 1, "[.": 1, "teams[team]": 1},
        {"$rename": {"page": "pages", "a": {"b": "team"}, "c": "meta.id", "e": ""}},
        {"$set": {"page": "team"}, "$renames": {"page": "team"}, "$ref": "team"},
        {"constructor": "McLaren", "prototype": {}, "constructors": {"prototype": 1}},
        {"constructor": {"name": "McLaren"}, "constructor.name": 1, "proto.x": 1, "protocol": 1},
        {"$set": {"page": 1}, "$inc": 1, "$": {"owner": 1}, "$set.team": 1},
        {"": 1, ".": 1, "proto": 1, "__proto": 1, "page": {"__proto__": {}}},
        {
            "!": 1,
            "\xb7": 1,
            "\u0301": 1,
            "\u0442eam": 1,
            "te\u0430m": 1,
            "\xe9": 1,
            "$teams": 1,
            "@te": 1,
        },
        {"teams(1i)": 1, "te(1i)": 1, "x(team)": 1, "(1i)team": 1, "(": 1, "meta2(1i)": 1},
    ],
)
def test_what_leads_elsewhere_passes(other: dict[str, object]) -> None:
    assert reads_alike(BODY | other, fields_named(PATHS))
    assert reads_alike(other, fields_named(PATHS))


OF_OBJECTS = ("$id", "$type", "$ref", "$schema", "@id", "@type", "@context")


@pytest.mark.parametrize("name", OF_OBJECTS)
def test_what_is_written_into_each_object_is_no_field_of_the_same_letters(name: str) -> None:
    """Json.NET, JSON Schema and JSON-LD write these, and clients send them back."""
    field, paths = name[1:], (name[1:], f"meta.{name[1:]}", "user.x")
    for value in ("a", 1, ["a"], {"x": "a"}):
        bodies: tuple[dict[str, Any], ...] = {name: value}, {name: value, field: "a"}
        for body in bodies:
            assert reads_alike(body, fields_named(paths))
            assert reads_alike({field: "a", "meta": body}, fields_named(paths))
            assert wraps({"user": body}, fields_named(paths), {"user"}) is (field in body)
            assert not wraps({field: "a", name: {field: "b"}}, fields_named(paths), {field})
    for other in (
        f"{name}_",
        name.upper(),
        f" {name}",
        f"[{name}]",
        f"-{field}",
        f"#{field}",
        f"${name}",
    ):
        assert not reads_alike({other: "a"}, fields_named(paths))
        assert wraps({"user": {other: "a"}}, fields_named(paths), {"user"})


def test_what_all_objects_have_of_a_field_is_looked_for_in_one_that_is_read_too() -> None:
    paths = fields_named(("constructor.name", "team"))
    assert reads_alike({"constructor": {"name": "McLaren"}, "team": "a"}, paths)
    assert not reads_alike({"constructor": {"prototype": {"team": "b"}}}, paths)
    assert reads_alike({"constructor": {"prototype": "MP4/1"}}, fields_named(("constructor.name",)))


def test_of_two_fields_of_the_same_letters_none_is_read() -> None:
    paths = fields_named(("team_id", "teamId.x", "team"))
    assert reads_alike({"team": "a"}, paths)
    bodies: list[dict[str, Any]] = [{"team_id": "a"}, {"teamId": {}}, {"team_id": 1, "teamId": {}}]
    for body in bodies:
        assert not reads_alike(body, paths)


def test_an_operator_that_names_a_field_is_one_whatever_its_name() -> None:
    assert not reads_alike({"$ref": {"ref": "a"}}, fields_named(("ref",)))
    assert not reads_alike({"$type": {"team": "b"}}, fields_named(PATHS))


@pytest.mark.parametrize("name", ["team", "team_id", "teamId", "XXXX"])
def test_a_field_is_read_under_its_own_name_alone(name: str) -> None:
    assert reads_alike({name: "a"}, fields_named((name,)))
    for other in (f"-{name}", f"${name}", f" {name}!", f"{name[:1]}\u0301{name[1:]}"):
        assert not reads_alike({other: "a"}, fields_named((name,)))
    assert not reads_alike({"$set": {name: "a"}}, fields_named((name,)))


@pytest.mark.parametrize(
    ("body", "alike"),
    [
        ({"team": "a"}, True),
        ({"Team": "a"}, False),
        ({"team": "a", "TEAM": "b"}, False),
        ({"team": "a", "meta": {"owner": "x", "Owner": "y"}}, False),
        ({"team": "a", "Meta": {"owner": "x"}}, False),
        ({"team": "a", "other": {"X": 1, "x": 2}}, True),
        ({"team": {"A": 1, "a": 2}}, True),
        ({}, True),
        (None, True),
        ({"meta": None}, True),
        ({"team": [1], "meta": {"owner": {}}}, True),
        ({"team": 2**63 - 1}, True),
        # What a rule that asks `has(…)` would not find, and a backend may.
        ([], False),
        ([{"team": "a"}], False),
        ("team", False),
        (7, False),
        ({"meta": [{"owner": "x"}]}, False),
        ({"meta": "x"}, False),
        ({"team": 2**63}, False),
        ({"team": -(2**63)}, False),
    ],
)
def test_a_field_of_the_body_has_one_name_in_any_case(body: object, alike: bool) -> None:
    # Go's encoding/json takes a field in any case, and the last one wins.
    assert reads_alike(body, fields_named(("team", "meta.owner"))) is alike


@pytest.mark.parametrize(
    ("path", "value"),
    [("a", {"b": {"c": 1}}), ("a.b.c", 1), ("a.x", None), ("x.b", None), ("a.b.c.d", None)],
)
def test_a_field_of_the_body_is_found_by_its_path(path: str, value: object) -> None:
    assert field_at({"a": {"b": {"c": 1}}}, path) == value
    assert field_at([], path) is None


@pytest.mark.parametrize(
    ("value", "takes"),
    [
        (None, True),
        ("text", True),
        (True, True),
        (2**63 - 1, True),
        (2**63, False),
        (-(2**63), False),
        (2.0**53 - 1, True),
        (2.0**53, False),
        (-(2.0**53), False),
        (2**53, True),
        ([], True),
        ({}, True),
        ([1, [2], {"a": "b"}], False),
        ([1, {}], True),
        ([1, {"a": "b"}], False),
        (["a", "b"], True),
        (["a", "b", "c"], False),
        ({"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2, "c": 3}, False),
        ([[], [], []], False),
        ([[[[]]]], False),
        ({"a": {}, "b": {}}, True),
        ({"a": {"b": {"c": {}}}}, False),
        ([1, {"a": 2**63}], False),
        ({"a": [2.0**53]}, False),
        ({"9" * 30: "key"}, True),
        # To a parser in C a text or a name ends at its NUL.
        ("te\x00xt", False),
        (["a", "b\x00"], False),
        ({"a": {"b\x00": 1}}, False),
    ],
)
def test_the_engine_takes_what_it_reads_exactly_and_of_few_parts(value: Any, takes: bool) -> None:
    assert engine_takes([value], 3) is takes


@pytest.mark.parametrize(
    ("body", "hidden"),
    [
        ({"owner": "a", "note": {"owner": "b"}}, True),
        ({"note": {"owner": "b"}}, True),
        ({"owner": "a", "Note": {"Owner": "b"}}, True),
        ({"owner": "a", "note ": {"ówner": "b"}}, True),
        ({"owner": "a", "note": {"owner": "a"}}, True),
        ({"note": {"owner": {"id": 1}}}, True),
        ({"note": {"meta": {}}}, True),
        ({"note": {"meta.kind": 1}}, True),
        ({"note": {"$set": {"owner": "b"}}}, True),
        ({"owner": "a", "note": {"title": "b", "kind": 1, "id": 7}}, False),
        ({"owner": "a", "note": "owner"}, False),
        ({"owner": "a", "note": ["owner"]}, False),
        ({"owner": "a", "project": {"owner": "b"}, "notes_": {"x": {"owner": "b"}}}, False),
        ({"note": {"id": 1}}, False),
        ({}, False),
        (None, False),
        ([], False),
    ],
)
def test_a_whole_that_a_backend_may_take_for_the_body_holds_none_of_its_fields(
    body: object, hidden: bool
) -> None:
    # Rails wraps no body that has the object.
    assert (
        wraps(body, fields_named(("owner", "meta.kind", "id", "note.id")), {"note", "notes"})
        is hidden
    )


@pytest.mark.parametrize("path", ["address.city", "address.address", "Add_ress.city.name"])
def test_a_field_that_is_read_in_such_a_whole_is_looked_for_nowhere_deeper(path: str) -> None:
    """What has the name of the whole within it is a line of an address, and no whole once more."""
    inner, names = (
        {"city": "x", "address": "Main st 1", "add-ress": {"city": "y"}},
        {"address", "user"},
    )
    body, fields = {"address": inner}, fields_named((path,))
    assert not wraps(body, fields, names)
    assert wraps({**body, "user": {"address": {"city": "y"}}}, fields, names)
    assert wraps(body, fields_named((path, "city")), names) is (path != "address.city")
    assert not wraps(body, fields_named(("addresses.city",)), names)
