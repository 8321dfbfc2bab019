"""Among the names of objects into which Rails may put a body are those that its inflector gives."""

from __future__ import annotations

import pytest

from gateway.access.routing.wrapper_names import wrappers_of

SINGULARS = {
    # Of each rule of its inflector, as Rails 7.2 says.
    "notes": "note", "addresses": "address", "news": "news", "data": "datum", "media": "medium",
    "analyses": "analysis", "diagnoses": "diagnosis", "theses": "thesis", "bases": "basis",
    "parentheses": "parenthesis", "lives": "life", "knives": "knife", "hives": "hive",
    "natives": "native", "wolves": "wolf", "halves": "half", "categories": "category",
    "queries": "query", "soliloquies": "soliloquy", "series": "series", "movies": "movie",
    "boxes": "box", "batches": "batch", "classes": "class", "dishes": "dish", "mice": "mouse",
    "lice": "louse", "buses": "bus", "heroes": "hero", "shoes": "shoe", "crises": "crisis",
    "testes": "testis", "axes": "axis", "octopi": "octopus", "viri": "virus", "aliases": "alias",
    "statuses": "status", "oxen": "ox", "vertices": "vertex", "indices": "index",
    "matrices": "matrix", "quizzes": "quiz", "databases": "database", "people": "person",
    "salespeople": "salesperson", "women": "woman", "children": "child",
    "grandchildren": "grandchild", "sexes": "sex", "moves": "move", "zombies": "zombie",
    "rice": "rice", "fish": "fish", "police": "police",
    # Of one thing: what becomes of its plural, or of itself.
    "profile": "profile", "address": "address", "status": "status", "cart": "cart", "lens": "len",
    "bonus": "bonu", "canvas": "canva", "analysis": "analysis", "quota": "quotum", "bus": "bus",
    "cookie": "cooky", "drive": "drife", "cause": "cause", "curve": "curf", "tooth": "tooth",
    "oasis": "oase", "chassis": "chass", "wolfe": "wolf", "nursery": "nurseries", "ax": "axis",
    "menu": "menu", "gpu": "gpu",
}  # fmt: skip


@pytest.mark.parametrize(("name", "single"), SINGULARS.items())
def test_what_rails_makes_of_a_controller_is_among_the_names(name: str, single: str) -> None:
    for path in (name, f"api/v1/{name}", f"users/{name}", f"{name}/search", f"{name}.json"):
        assert {name, single} <= wrappers_of(path.split("/"))
    assert {name, single} <= wrappers_of([], name)


@pytest.mark.parametrize(
    ("path", "kind", "named"),
    [
        ("notes", "", {"notes"}),
        ("api/v1/sales-notes", "", {"salesnotes"}),
        ("notes/publish", "", {"publish", "notes"}),
        ("users/notes", "", {"notes"}),
        ("users/profile", "", {"profile", "users"}),
        ("users/profile/publish", "", {"publish", "profile", "users"}),
        ("users/billing-address", "", {"billingaddress", "users"}),
        ("profile", "", {"profile"}),
        ("account/profile", "Member", {"profile", "account", "member"}),
        ("people/merge", "", {"merge", "people"}),
        ("menus", "", {"menus"}),
        ("notes.json", "", {"notes"}),
        ("notes/status", "", {"status", "notes"}),
        ("users/posts/comments/approve", "", {"approve", "comments"}),
        ("", "", set()),
        ("", "Notes", {"notes"}),
    ],
)
def test_names_are_those_of_what_may_serve_the_path(path: str, kind: str, named: set[str]) -> None:
    """A plural ends the search: a comment below a post is no post."""
    names = wrappers_of(path.split("/"), kind)
    assert names == frozenset().union(*(wrappers_of([], one) for one in named))
    assert named <= names
    assert {"note", "user", "post", "api", "v1"} & names <= {one.removesuffix("s") for one in named}
