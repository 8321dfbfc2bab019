"""An entity of OData is reached by no path but its own."""

from __future__ import annotations

import pytest

from gateway.model import Reason
from tests.access.spelling_worlds import NOBODY
from tests.access.worlds import decide, snapshot

ODATA = """
    - {id: all, match: {path: "/odata/{rest:path}"}, auth: public, upstream: api}
    - {id: moved, match: {prefix: /moved}, auth: public, upstream: api,
       rewrite: {strip_prefix: /moved}}
    - {id: book, match: {path: "/odata/Books/{id:int}"}, policy: nobody, upstream: api}
    - {id: chapter, match: {path: "/odata/Books/{id:int}/Chapters/{n:int}"}, policy: nobody,
       upstream: api}
    - {id: order, match: {path: "/odata/Orders/{id:uuid}"}, policy: nobody, upstream: api}
    - {id: person, match: {path: "/odata/People/{name}"}, policy: nobody, upstream: api}
    - {id: authors, match: {path: /odata/Authors}, policy: nobody, upstream: api}
    - {id: below, match: {path: "/odata/Notes/{rest:path}"}, policy: nobody, upstream: api}
    - {id: site, match: {prefix: /odata/Sites}, policy: nobody, upstream: api}
    - {id: own, match: {path: "/odata/Authors()"}, auth: public, upstream: api}
    - {id: page, match: {path: "/wiki/{page}"}, auth: public, upstream: api}
    - {id: part, match: {path: "/wiki/{page}/{part}"}, policy: nobody, upstream: api}
    - {id: year, match: {path: "/films/{film}/{year:int}"}, policy: nobody, upstream: api}
    - {id: films, match: {path: "/films/{rest:path}"}, auth: public, upstream: api}
"""


@pytest.mark.parametrize(
    "path",
    ["/odata/Books(7)", "/odata/Books(ID=7)", "/odata/BOOKS(7)/", "/odata/Books%287%29", "/odata/Books(+7)", "/odata/Books('7')", "/odata/Books(7).json", "/odata/Books(7)/Chapters(2)", "/odata/Books/7/Chapters(N=2)", "/odata/Books(7)/Chapters/2",
     "/odata/Orders(6F9619FF-8B86-D011-B42D-00CF4FC964FF)", "/odata/Orders(id=6f9619ff-8b86-d011-b42d-00cf4fc964ff)", "/odata/Orders(guid'6f9619ff-8b86-d011-b42d-00cf4fc964ff')", "/odata/People('ann')", "/odata/Authors(7)", "/odata/Authors(a=1,b=2)", "/odata/Notes(7)", "/odata/Notes(7)/text", "/odata/Notes()/text", "/odata/Sites(7)", "/odata/Sites(7)/x"],
)  # fmt: skip
def test_an_entity_is_none_of_another_route_by_its_key_in_parentheses(path: str) -> None:
    world = snapshot(ODATA, NOBODY)
    for before in ("", "/moved"):
        decision = decide(world, f"GET {before}{path}")
        assert decision.reason is Reason.AMBIGUOUS_PATH, before


@pytest.mark.parametrize(
    ("path", "route"),
    [("/odata/Pub(7)", "all"), ("/odata/Books(x)", "all"), ("/odata/Books", "all"), ("/odata/(7)", "all"), ("/odata/Books7)", "all"), ("/odata/Pub(7)/Books(7)", "all"), ("/odata/A(1)/B(2)/C(3)/D(4)", "all"), ("/odata/Authors()", "own"), ("/odata/My(Books)", "all"),
     # Ordinary names, where no route names by letters what stands before the parentheses.
     ("/wiki/Python_(language)", "page"), ("/wiki/1984_(2)", "page"), ("/films/Dune_(1984)", "films"), ("/films/Dune(1984)", "films")],
)  # fmt: skip
def test_parentheses_in_other_names_pass(path: str, route: str) -> None:
    decision = decide(snapshot(ODATA, NOBODY), f"GET {path}")
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, True), decision.reason
