"""What a backend may take for a field of a JSON body stands under the name that a policy reads."""

from __future__ import annotations

import pytest

from gateway.access.routing.request_values import reads_alike

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
    assert not reads_alike(BODY | other, PATHS)
    assert not reads_alike(other, PATHS)


@pytest.mark.parametrize(
    "other",
    [{"own-er": {}}, {"owner.id": "u2"}, {"owner[id]": "u2"}, {"$set": {"owner": 1}},
     {"$set": {"owner.id": 1}}, {"__proto__": {}}, {"owner": {"ID": "u2"}},
     {"owner": {"id": "u1", "id.x": 1}}, {"owner": {"$set": {"id": "u2"}}}, {"[owner]": {}},
     {"[owner].id": "u2"}, {"owner": {"id": "u1", "['id']": "u2"}}, {"$rename": {"x": "owner"}},
     {"$rename": {"x": "owner.id"}}, {"owner": {"constructor": {"prototype": {}}}}],
)  # fmt: skip
def test_what_leads_to_the_rest_of_a_path_is_refused_within(other: dict[str, object]) -> None:
    assert not reads_alike({"meta": {"owner": {"id": "u1"}} | other}, PATHS)
    assert reads_alike(BODY | {"page": other}, PATHS)


@pytest.mark.parametrize(
    "other",
    [
        {"id": 1, "owner": {}, "owner.id": 1, "meta.id": 1, "metas": 1, "teams": 1, "x.team": 1},
        {"meta.owners": 1, "meta.own": 1, "meta[x]owner": 1, "x[meta.owner]": 1, "metaowner": 1},
        {"[id]": 1, "[owner]": 1, "[meta].id": 1, "[x][team]": 1, "[teams]": 1, "[x]team": 1},
        {"[": 1, "]": 1, "[]": 1, "['']": 1, "[.": 1, "-[team]": 1, ".team": 1, "teams[team]": 1},
        # No path of lodash is made of these.
        {"meta.own'er": 1, 'meta."owner"': 1, "team]": 1, "]team": 1, "'team'": 1, "te\\am": 1},
        {"$rename": {"page": "pages", "a": {"b": "team"}, "c": "meta.id", "d": "$team", "e": ""}},
        {"$set": {"page": "team"}, "$renames": {"page": "team"}, "$ref": "team"},
        {"constructor": "McLaren", "prototype": {}, "constructors": {"prototype": 1}},
        {"constructor": {"name": "McLaren"}, "constructor.name": 1, "proto.x": 1, "protocol": 1},
        {"$set": {"page": 1}, "$inc": 1, "$": {"owner": 1}, "$set.team": 1},
        {"": 1, ".": 1, "proto": 1, "__proto": 1, "page": {"__proto__": {}}},
    ],
)
def test_what_leads_elsewhere_passes(other: dict[str, object]) -> None:
    assert reads_alike(BODY | other, PATHS)
    assert reads_alike(other, PATHS)


@pytest.mark.parametrize("name", ["team", "team_id", "teamId", "XXXX"])
def test_a_field_is_read_under_its_own_name_alone(name: str) -> None:
    assert reads_alike({name: "a"}, (name,))
    assert not reads_alike({f"-{name}": "a"}, (name,))
    assert not reads_alike({"$set": {name: "a"}}, (name,))
