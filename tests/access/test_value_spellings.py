"""What a backend takes for a protected number or UUID is reached by no route that asks for less."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from gateway.access.routing.value_spellings import (
    begins_with_number,
    may_name_value,
    number_of,
    uuid_of,
    whole_number_of,
)
from gateway.model import Reason
from tests.access.spelling_worlds import ANN, MEMBERS, NOBODY
from tests.access.worlds import decide, snapshot, who

UUID = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
BARE = UUID.replace("-", "")
WORLD = snapshot(
    """
    - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, auth: public, upstream: api}
    - {id: book, match: {path: "/books/{n:int}/pages"}, policy: nobody, upstream: api}
    - {id: user, match: {path: "/users/{id:int}"}, policy: nobody, upstream: api}
    - {id: document, match: {path: "/docs/{id:uuid}/x"}, policy: nobody, upstream: api}
    - {id: post, match: {path: "/posts/{id:int}"}, policy: nobody, upstream: api}
    - {id: post.named, match: {path: "/posts/{slug}", methods: [GET]}, auth: public, upstream: api}
    - {id: item, match: {path: "/items/{id:uuid}"}, policy: nobody, upstream: api}
    - {id: item.named, match: {path: "/items/{slug}"}, auth: public, upstream: api}
    - {id: part, match: {path: "/parts/{id:int}/edit"}, policy: nobody, upstream: api}
    - {id: part.below, match: {path: "/parts/{slug}/{rest:path}"}, auth: public, upstream: api}
    - {id: shelf, match: {path: /shelves/7/all}, policy: nobody, upstream: api}
    - {id: shelves, match: {path: "/shelves/{n:int}/all"}, auth: public, upstream: api}
    - {id: same, match: {path: "/open/{id:int}"}, auth: public, upstream: api}
    - {id: moved, match: {prefix: /moved}, auth: public, upstream: api,
       rewrite: {strip_prefix: /moved}}
    """,
    NOBODY,
)

WHOLE_NUMBERS = {
    "Flask, by any script's digits": ["٧", "७", "७७", "1७"],
    "FastAPI (Pydantic)": ["+7", "7.0", " 7", "7 ", "0_7", "1_000", "-7"],
    "Bottle and Falcon": ["-7"],
    "Go, ASP.NET": ["+7", "-7", "\u22127"],
    "Spring": ["0x7", "0x" + "0" * 17 + "7", "#7", "-0X1F", "1 0", "\u00a07"],
    "JavaScript's Number": ["7.", ".7e1", "7e0", "0b111", "0o7", "7E+0", "\ufeff7"],
    "Ruby's Integer": ["0d7"],
    "numbers with marks": ["1'000", "1\u2019000"],
    "plain, or folded into it": ["7", "007", "７", "⑦"],
}
BEGINNINGS = ["7abc", "7.9", "7;x", "7-habits", " +7x", "--7x", "٧x", "1,000", "7 of 9", "10.0.0.1"]
WHOLE_UUIDS = {
    "Pydantic, PostgreSQL": [BARE, f"urn:uuid:{UUID}", f"{{{UUID}}}", BARE[:16] + "-" + BARE[16:]],
    "PostgreSQL": [f"{{{BARE}}}"],
    "Guid.Parse": [
        f"({UUID})",
        f" {UUID} ",
        "{0x3f2504e0,0x4f89,0x11d3,{0x9a,0x0c,0x03,0x05,0xe8,0x2c,0x33,0x01}}",
        "{0x3f2504e0,0x4f89,0x11d3,{0x9a,0xc,0x3,0x5,0xe8,0x2c,0x33,0x1}}",
    ],
    "Java's UUID.fromString": ["1-2-3-4-5", f"0{UUID}", f"+{UUID}", UUID.replace("-0", "-")],
    "Python's UUID": [
        f"urn:{BARE}",
        f"+{BARE[1:]}",
        f"0x{BARE[2:]}",
        f" {BARE[1:]}",
        f"uurn:uid:{BARE}",
        f"{BARE[:-3]}_{BARE[-2:]}",
    ],
}


def encoded(segment: str) -> str:
    return quote(segment, safe="+")


def refused(path: str, method: str = "GET") -> bool:
    decision = decide(WORLD, f"{method} {path}", ANN)
    assert decision.allowed is (decision.reason is not Reason.AMBIGUOUS_PATH)
    return decision.reason is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize(
    "text", [one for name, texts in WHOLE_NUMBERS.items() if "plain" not in name for one in texts]
)
def test_what_a_backend_takes_for_a_protected_number_is_refused(text: str) -> None:
    for before in ("", "/moved"):
        assert refused(f"{before}/books/{encoded(text)}/pages")
        assert refused(f"{before}/users/{encoded(text)}")
        # Whole, it is no other word either.
        assert refused(f"{before}/posts/{encoded(text)}")


@pytest.mark.parametrize("text", [one for one in BEGINNINGS if ";" not in one])
def test_what_only_begins_with_a_protected_number_is_refused_where_no_route_names_it(
    text: str,
) -> None:
    for before in ("", "/moved"):
        assert refused(f"{before}/books/{encoded(text)}/pages")
        assert refused(f"{before}/users/{encoded(text)}")
        assert refused(f"{before}/parts/{encoded(text)}/edit")
        assert not refused(f"{before}/posts/{encoded(text)}")
    decision = decide(WORLD, f"GET /posts/{encoded(text)}")
    assert decision.route is not None
    assert decision.route.id == "post.named"
    # The route that names it takes no POST, and the number's does.
    assert refused(f"/moved/posts/{encoded(text)}", method="POST")


@pytest.mark.parametrize("text", [one for texts in WHOLE_UUIDS.values() for one in texts])
def test_what_a_backend_takes_for_a_protected_uuid_is_refused(text: str) -> None:
    for before in ("", "/moved"):
        assert refused(f"{before}/docs/{encoded(text)}/x")
        assert refused(f"{before}/docs/{encoded(text.upper())}/x")
        assert refused(f"{before}/items/{encoded(text)}")


def test_what_only_begins_with_a_protected_uuid_is_refused_where_no_route_names_it() -> None:
    assert refused(f"/docs/{UUID}%20and%20more/x")
    assert refused(f"/docs/{UUID}wrong/x")
    assert not refused(f"/items/{UUID}-and-more")


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/posts/7-habits", "post.named"),
        ("/posts/abc", "post.named"),
        ("/posts/v1.5", "post.named"),
        ("/posts/1.5", "post.named"),
        ("/posts/2024-11-29", "post.named"),
        ("/posts/1,2,3", "post.named"),
        ("/posts/_7", "post.named"),
        ("/posts/0xyz", "post.named"),
        ("/posts/0beef", "post.named"),
        ("/posts/-", "post.named"),
        ("/posts/e7", "post.named"),
        ("/items/7-up", "item.named"),
        ("/items/deadbeef", "item.named"),
        ("/items/da39a3ee5e6b4b0d3255bfef95601890afd80709", "item.named"),
        ("/items/one-two-three-four-five", "item.named"),
        ("/books/abc/pages", "rest"),
        ("/books/x7/pages", "rest"),
        ("/books/7x/other", "rest"),
        ("/books/7x", "rest"),
        ("/docs/7/x", "rest"),
        ("/docs/abc/x", "rest"),
        ("/users/7.png", "rest"),
        ("/users/7-large.min.js", "rest"),
        ("/parts/7-up/read", "part.below"),
        ("/parts/up/edit", "part.below"),
        ("/shelves/8/all", "shelves"),
        ("/shelves/08/all", "shelves"),
        ("/open/7", "same"),
        ("/open/+7", "rest"),
        ("/open/7abc", "rest"),
        ("/7/+7", "rest"),
    ],
)
def test_what_is_no_protected_number_passes(path: str, route: str) -> None:
    decision = decide(WORLD, f"GET {path}")
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, True), decision.reason


@pytest.mark.parametrize("text", ["07", "+7", "7.0", "٧", "0x7", "7e0"])
def test_a_number_that_a_route_names_is_reached_by_no_other_spelling(text: str) -> None:
    assert decide(WORLD, "GET /shelves/7/all").reason is Reason.NO_CREDENTIAL
    assert refused(f"/shelves/{encoded(text)}/all")


def test_a_uuid_that_a_route_names_is_reached_by_no_other_spelling() -> None:
    world = snapshot(
        f"""
        - {{id: rest, match: {{path: "/{{rest:path}}", except_reserved: true}}, auth: public,
           upstream: api}}
        - {{id: secret, match: {{path: /docs/{UUID}}}, policy: nobody, upstream: api}}
        """,
        NOBODY,
    )
    assert decide(world, f"GET /docs/{BARE}").reason is Reason.AMBIGUOUS_PATH
    assert decide(world, f"GET /docs/{BARE[:-1]}0").allowed


def test_a_number_is_looked_for_where_uuids_are_and_the_other_way_round() -> None:
    """A UUID begins with a number, to who reads one."""
    assert refused(f"/books/{UUID}/pages")
    assert not refused("/docs/7/x")


def test_a_route_for_everything_with_the_same_protection_takes_every_spelling() -> None:
    world = snapshot(
        """
        - {id: rest, match: {prefix: /, except_reserved: true}, policy: signed-in, upstream: api}
        - {id: book, match: {path: "/books/{n:int}"}, policy: signed-in, upstream: api}
        """
    )
    for text in ("7", "+7", "7abc", "7.9", "٧"):
        assert decide(world, f"GET /books/{encoded(text)}", ANN).allowed


def test_the_policy_is_told_of_no_number_in_other_signs() -> None:
    """A rule about the owner `7` would not see that it is they."""
    world = snapshot(
        """
        version: 1
        tenants: {roles: [owner, member]}
        upstreams: {api: {targets: [http://127.0.0.1:9001]}}
        defaults: {policy: members, upstream: api}
        routes:
          - {id: order, match: {path: "/orders/{owner:int}"}, resource: {owner: "{owner}"}}
          - {id: named, match: {path: "/{kind}/{id}", except_reserved: true},
             resource: {owner: "{id}"}}
        """,
        MEMBERS,
    )
    caller = who("+7", claims={"tenants": {"anns": "owner"}, "tenant": "anns"})
    assert decide(world, "GET /orders/+7", caller).reason is Reason.AMBIGUOUS_PATH
    assert decide(world, "GET /other/+7", caller).allowed


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", "7"), ("007", "7"), ("0", "0"), ("00", "0"), ("+7", "7"), ("-7", "-7"), ("\u22127", "-7"),
     ("(7)", "-7"), ("7-", "7"), ("7.00", "7"), ("7.e0", "7"), (".0", "0"), ("0x1f", "31"), ("0x" + "f" * 17, "0x" + "f" * 17), ("0x" + "0" * 17 + "7", "7"),
     ("0b11", "b11"), ("1_000", "1000"), ("7e3", "7.e3"), ("0.7e1", "0.7e1"), ("७०", "70"),
     ("", None), (".", None), ("+", None), ("7.5", None), ("e7", None), ("7e", None), ("0x", None), ("0b2", None), ("1,000", None), ("_7", None),
     ("1.2.3", None), ("7f", None), ("²x", None)],
)  # fmt: skip
def test_a_number_is_the_same_in_each_of_its_spellings(text: str, number: str | None) -> None:
    assert number_of(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", "7"), ("-007", "-7"), ("7.0", "7"), ("70e-1", "7"), ("7e3", "7000"), ("0b11", "3"), ("0o17", "15"), ("0d07", "7"),
     ("-0", "0"), ("-0.0e5", "0"), ("(7)", "-7"), ("#7", "7"), ("7e\u22121", None), ("7." + "0" * 9_000 + "1", None),
     ("7.50", None), ("-.5", None), ("7-", None), ("7\u2212", None), ("7+", None), ("7)", None), ("12345e67", None), ("9007199254740992e0", "9007199254740992"),
     ("1e999", None), ("1e" + "9" * 401, None), ("7" * 401 + ".5", None), ("0b" + "1" * 65, "0b" + "1" * 65), ("7abc", None), ("", None)],
)  # fmt: skip
def test_a_number_has_one_text_for_its_value(text: str, number: str | None) -> None:
    assert whole_number_of(text) == number


@pytest.mark.parametrize(
    ("text", "uuid"),
    [(UUID, UUID), (BARE, UUID), (f"({UUID})", UUID), (f"1{UUID}", UUID),
     ("00961900-8b86-d011-b42d-00c04fc964ff", "00961900-8b86-d011-b42d-00c04fc964ff"), ("9_61900_-8b86-d011-b42d-00c04fc964ff", "00961900-8b86-d011-b42d-00c04fc964ff"),
     ("0x961900-8b86-d011-b42d-00c04fc964ff", "00961900-8b86-d011-b42d-00c04fc964ff"), ("1-2-3-4-5", "00000001-0002-0003-0004-000000000005"),
     ("{0x3f2504e0,0x4f89,0x11d3,{0x9a,0xc,0x3,0x5,0xe8,0x2c,0x33,0x1}}", UUID),
     (BARE[1:], None), (BARE + "0", None), ("g" * 32, None), ("", None), ("1-2-3-4", None), ("1-2-3-4-5-6", None), ("1-2-3-4-", None)],
)  # fmt: skip
def test_a_uuid_is_the_same_in_each_of_its_spellings(text: str, uuid: str | None) -> None:
    assert uuid_of(text) == uuid


@pytest.mark.parametrize(
    ("text", "begins"),
    [("7", True), (".7e1x", True), ("7x", True), (" -7", True), ("٧x", True), ("x7", False), ("", False),
     ("-", False), (".7", False), ("(7)", False)],
)  # fmt: skip
def test_a_number_begins_after_blanks_and_signs(text: str, begins: bool) -> None:
    assert begins_with_number(text) is begins


@pytest.mark.parametrize("numbers", [True, False])
def test_nearly_every_path_is_seen_to_name_no_value_at_once(numbers: bool) -> None:
    for text in (
        "7",
        "0",
        "abc",
        "xyz",
        "x",
        "api",
        "v1",
        "abcxy",
        "a" * 16,
        "",
        "feed",
        "users",
    ):
        assert not may_name_value(["a", text], numbers=numbers)
    for text in (
        BARE,
        UUID + "x",
        "urn:uuid:" + UUID,
        "feed" * 8,
        "a-b-c-d-e",
        "7x" * 16,
        "7" * 32,
    ):
        assert may_name_value([text, "a"], numbers=numbers)


def test_what_begins_with_a_number_may_name_one() -> None:
    for text in ("07", "7x", "-7", "+7", "\u0667", " 7", "#7", ".7", UUID):
        assert may_name_value(["a", text], numbers=True)
    assert not may_name_value(["a", UUID], numbers=False)
