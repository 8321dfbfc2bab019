"""What a path may be taken for: which paths, how many of them, and what it takes to find them."""

from __future__ import annotations

import re
from itertools import chain
from unicodedata import normalize
from urllib.parse import quote

import pytest

from gateway.access.routing.spellings import (
    MOST_LETTERS,
    Spellings,
    folded_letters,
    spellings_of,
)
from gateway.model import Reason
from tests.access.spelling_worlds import ANN, FOLDERS, NOBODY, WORLD
from tests.access.worlds import decide, snapshot
from tests.cpu_cost import cost_ratio


@pytest.mark.parametrize(
    ("path", "others"),
    [
        ("", []),
        ("a", []),
        ("A/b", ["a/b"]),
        ("a/b/", ["a/b"]),
        ("A/B/", ["a/b"]),
        ("a.phps", ["a.phps", "a"]),
        ("a.b.json", ["a.b.json", "a.b", "a"]),
        ("a.b7", ["a.b7", "a"]),
        ("\u247d", ["(10)"]),  # one letter, and the longest fold
        ("\ufdfa", []),
        ("a.js", []),
        ("a.7", []),
        ("a. /b. ", ["a. /b. ", "a/b"]),
        ("a.php", ["a.php", "a"]),
        ("index.php", ["index.php", "", "index"]),
        ("INDEX.PHP/A/b/", ["index.php/a/b", "a/b"]),
        ("a/b.php/c/d", ["a/b.php/c/d", "a/c/d"]),
        ("a/index.php", ["a/index.php", "a", "a/index"]),
        # The first script serves what stands behind it.
        ("a.php/b.php/c", ["a.php/b.php/c", "b.php/c", "c"]),
        ("a/(S(x))/b.html", ["a/(s(x))/b.html", "a/b.html", "a/(s(x))/b", "a/b"]),
    ],
)
def test_a_path_is_taken_for_itself_folded_and_for_the_one_without_a_script(
    path: str, others: list[str]
) -> None:
    segments = tuple(path.split("/"))
    found = ["/".join(one) for one in spellings_of(segments).paths]
    assert found == (others or [path])


@pytest.mark.parametrize(
    ("path", "scripts"),
    [
        ("a.b.7", ["a", "a.b"]),
        ("a..7", ["a", "a."]),
        ("a.b.c.7", ["a", "a.b"]),
        ("a", []),
        ("a.aspx/b", ["a.aspx", "a", "b"]),
        ("a/index.php/b", ["a/index.php", "a/index", "a"]),
        # What stands behind the first is what it serves, or a script in a folder.
        ("a.pl/b.pl/c", ["a.pl", "a", "a.pl/b.pl", "a.pl/b", "b.pl/c", "a.pl/c"]),
        ("cgi-bin/a/b/c", ["cgi-bin/a", "cgi-bin/a/b", "b/c", "c"]),
        ("cgi-bin/a", []),
        ("cgi-bin", []),
        ("a/index.cgi/b", ["a/index.cgi", "a/index", "a", "a/b"]),
        ("a/default.asp/b", ["a/default.asp", "a/default", "a", "a/b"]),
        ("index.php/b", ["index.php", "index"]),
        ("a.b.c.php/x", ["a.b.c.php", "a", "a.b.c"]),
        (".php/x", [".php"]),
        ("cgi-bin/a.b/x", ["cgi-bin/a.b", "cgi-bin/a", "x"]),
        # What is left is as long as a route that names its end.
        ("a/b/x.py/c", ["a/b/x.py", "a/b/x", "a/b/c"]),
        ("a/b/x.py/c/d", ["a/b/x.py", "a/b/x"]),
        ("cgi-bin/a/b/c/d/e", ["cgi-bin/a", "cgi-bin/a/b", "cgi-bin/a/b/c", "c/d/e", "d/e", "e"]),
        ("a/b/cgi-bin/c/d/e", ["a/b/cgi-bin/c", "a/b/e"]),
        ("a/b/c/cgi-bin/d/e", []),
        ("a.7", ["a"]),
        ("a.b/c.7", ["a.b/c"]),
        ("a.7/b", []),
        # A name that begins with a point has no ending.
        (".7", []),
        ("a/.7", []),
    ],
)
def test_a_path_runs_the_script_in_it_and_what_it_names_without_an_ending(
    path: str, scripts: list[str]
) -> None:
    found = spellings_of(tuple(path.split("/")), most_dots=1, most_segments=3).scripts
    assert ["/".join(one) for one in found] == scripts


@pytest.mark.parametrize(
    ("path", "others"),
    [
        ("a.php/b", ["b", "a/b"]),
        ("a/b.c.pl/d/e", ["a/b/d/e", "a/b.c/d/e"]),
        ("a.pl/b.pl/c", ["a/b.pl/c", "a.pl/b/c"]),
        ("a/b/c.pl/d", []),  # at a deeper place than any route names
        ("a.pl", ["a"]),
        ("cgi-bin/a.b/c", []),
    ],
)
def test_a_script_within_a_path_may_be_one_without_its_ending(path: str, others: list[str]) -> None:
    found = spellings_of(tuple(path.split("/")), most_places=2).paths
    assert ["/".join(one) for one in found] == [path, *others]


def test_no_more_names_are_without_an_ending_than_routes_have_dots() -> None:
    for most_dots, count in ((0, 1), (2, 3), (40, 30)):
        assert len(spellings_of(("7" + ".7" * 30,), most_dots=most_dots).scripts) == count


def test_no_script_is_looked_for_deeper_than_routes_name_one() -> None:
    path = ("cgi-bin", *["a.py"] * 2_000, "x")
    for most_segments in (2, 7):
        scripts = spellings_of(path, most_segments=most_segments).scripts
        assert path[:most_segments] in scripts
        assert len(scripts) <= 3 * most_segments + 1
        assert all(len(one) <= most_segments + 2 for one in scripts)


MANY = "/index.php/(S(x))/_next/data/b/en/a/index.html.json"


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("x.php/(S(x))/_next/data/b/en/a.json", 16),
        ("index.php/x.php/(S(x))/index.html", 0),  # 17
        # 16 in two steps of backends, and more in the third.
        ("x.php/(S(x))/_next/data/b/en/index.json", 0),
    ],
)
def test_a_path_has_sixteen_spellings_or_is_compared_in_none(path: str, count: int) -> None:
    found = spellings_of(tuple(path.split("/")))
    assert len(found.paths) == count
    assert count or found == Spellings([], [])


def test_a_long_path_has_room_for_few_other_spellings() -> None:
    long = "x" * (MOST_LETTERS // 2)
    assert len(spellings_of((long, "a.html")).paths) == 1 + 1
    assert spellings_of((long, "a.tar.gz")) == Spellings([], [])
    longest = "x" * (MOST_LETTERS - len("/a"))
    assert len(spellings_of((longest, "a.html")).paths) == 1 + 1
    assert spellings_of((longest + "x", "a.html")) == Spellings([], [])


def test_letters_that_were_folded_are_as_any_fold_has_them() -> None:
    for code in chain(range(0xD800), range(0xE000, 0x110000)):
        once = folded_letters(chr(code))
        assert folded_letters(once) == once, hex(code)


def test_whatever_is_a_letter_to_who_ignores_case_is_folded_into_it() -> None:
    """By a regular expression of Python, by the case of each letter (Java), or by simple mapping
    (Go), to which U+0130 is an `i` without its dot."""
    ascii_letter = re.compile("[a-z]", re.IGNORECASE)
    for code in chain(range(0x80, 0xD800), range(0xE000, 0x110000)):
        char = chr(code)
        cases = {char.lower(), char.upper(), char.upper().lower(), char.lower()[:1]}
        letters = {
            one.lower() for one in cases if one.isascii() and one.isalpha() and len(one) == 1
        }
        if ascii_letter.fullmatch(char) or letters:
            assert folded_letters(char) in (letters or "abcdefghijklmnopqrstuvwxyz"), hex(code)
    assert folded_letters("\u0130nternal") == folded_letters("\u0131nternal") == "internal"


def test_whatever_unicode_takes_for_one_letter_is_folded_alike() -> None:
    for code in chain(range(0x80, 0xD800), range(0xE000, 0x110000)):
        char = chr(code)
        if len(normalize("NFKD", char)) <= 4:
            others = (
                normalize("NFD", char),
                char.lower(),
                normalize("NFC", normalize("NFD", char)),
            )
            assert {folded_letters(one) for one in others} == {folded_letters(char)}, hex(code)


@pytest.mark.parametrize("path", ["/I\u0307dare", "/i\u0307dare", "/\u0131dare", "/idare"])
def test_a_protected_letter_with_a_dot_has_no_other_spelling(path: str) -> None:
    world = snapshot(
        "- {id: admin, match: {path: /\u0130dare}, policy: signed-in, upstream: api}\n"
        '- {id: rest, match: {path: "/{rest:path}", except_reserved: true}, auth: public, upstream:'
        " api}\n"
    )
    assert decide(world, f"GET {quote(path)}").refusal is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize(
    "path",
    ["/adm\u0130n/users", "/adm\u0131n/users", "/ADM%C4%B0N/users", "/admI\u0307n/users"],
)
def test_an_i_with_a_dot_and_without_is_no_way_around_a_protected_path(path: str) -> None:
    world = snapshot(
        "- {id: admin, match: {path: /admin/users}, policy: signed-in, upstream: api}\n"
        '- {id: rest, match: {path: "/{rest:path}", except_reserved: true}, auth: public, upstream: api}\n'
    )
    url = quote(path, safe="/%")
    assert decide(world, f"GET {url}").refusal is Reason.AMBIGUOUS_PATH


def test_the_letters_of_all_that_is_made_of_a_path_are_told() -> None:
    assert spellings_of(("a", "b")).letters == 0
    assert spellings_of(("a", "b.html"), most_dots=0).letters == len("a/b") * 2
    assert spellings_of(("a.py", "b"), most_segments=2).letters == len("a.py" + "a" + "b")
    assert spellings_of(("a.py", "b"), most_places=1).letters >= len("a/b")


def test_fewer_letters_may_be_asked_for() -> None:
    path = ("x" * 100, "a.html")
    assert len(spellings_of(path, most_letters=102).paths) == 1 + 1
    assert spellings_of(path, most_letters=101) == Spellings([], [])
    assert spellings_of(path, most_letters=101).letters == 102
    assert spellings_of(("x" * MOST_LETTERS, "a.html"), most_letters=10**6).paths == []


def test_a_path_of_very_many_spellings_may_be_any() -> None:
    routes = snapshot(FOLDERS, NOBODY).routes
    rest = routes.get("rest")
    assert rest is not None
    segments = tuple(MANY[1:].split("/"))
    assert routes.bypasses_route(rest, "GET", segments)
    assert routes.is_protected_elsewhere(rest, "", "GET", segments)


def test_a_path_of_very_many_spellings_is_none() -> None:
    for open_ in (MANY, f"/moved{MANY}"):
        assert decide(snapshot(FOLDERS, NOBODY), f"GET {open_}", ANN).reason is (
            Reason.AMBIGUOUS_PATH
        )


@pytest.mark.parametrize(
    "path",
    ["/index.php/(S(x))" * 470 + "/a.html.json.", "/x.php/(S(x))/_next/data/b/en" * 270 + "/page-data.json",
     "/_next/data" * 700, "/_next/data" * 700 + "/x.jsonx", "/_next/data" * 700 + "/x.json",
     "/_next/data/" + "x/" * 3900 + ".json", "/a.php" * 1300, "/index.phpx" * 700,
     "/" + "index.php" * 880, "/" + ".php" * 1990, "/" + ".data" * 1600, "/_" * 4000 + ".data",
     "/__data.json" * 650, "/a.pl.pl" * 990, "/index" * 1360,
     "/default.html" * 620, "/me/index.php" * 610, "/(S(x))" * 1160, "/x/(S(x))" * 900 + "/",
     "/" + "(s(" * 2600 + "))/x", "/(S(x" + "(a" * 3000 + "))/x", "/" + "." * 8000 + "x", "/x" + ". " * 4000, "/x" + "./" * 4000, "/" + "a.pl" * 2000 + "/x", "/" + "a.pl/" * 1600, "/" + ".cfm/." * 1300, "/" + ".html" * 1600,
     "/page-data" * 800 + "/page-data.json", "/x/" + "\ufdfa" * 900 + ".html", "/x/" + "\ufdf2" * 900 + "/.html", "/_next/data/b/en" * 500 + ".json",
     "/books/" + "7." * 3900, "/books/" + "7" * 8000, "/books/" + "0" * 8000 + "x/pages", "/books/" + "-" * 8000 + "/pages", "/books/" + " " * 8000 + "/pages", "/books/" + "7_" * 3900 + "/pages", "/books/0x" + "f" * 8000 + "/pages", "/books/7e" + "7" * 8000, "/books/." + "0" * 7000 + "x",
     "/books/" + "\u0667" * 3900 + "x/pages", "/items/" + "a-" * 3900 + "/pages", "/items/" + "urn:uuid:" * 880 + "/pages", "/items/" + "{0x" * 2600 + "/pages", "/7" * 4000, "/7x" * 2700, "/books/7x" * 900,
     "/index.php" * 780 + ".aaa.bbb.ccc.ddd", "/A.PHP" * 1300 + ".html__data.json",
     "/\xe9.php/admin./a." * 430 + "/__data.json", "/a.php" * 100 + ".a.b.c",
     "/cgi-bin" * 1000 + "/x", "/cgi-bin/a.py" * 580 + "/x", "/a.py" * 1600 + "/x", "/index.cgi" * 800 + "/x", "/htbin/x" * 1000, "/" + "cgi-" * 2000, "/x.php/cgi-bin/a" * 500 + ".b.c/x.html",
     "/__next.a" * 900 + ".txt", "/__next." * 1000 + "txt", "/x/__next.txt" * 620, "/a.segments" * 700 + "/x.segment.rsc", "/_sources" * 900 + "/x.txt", "/_sources/" + "a." * 4000 + "txt", "/_sources" * 900, "/_sources" * 900 + "/x.", "/_sources/." + "a" * 8000, "/_sources" * 450 + "/a.b" * 1000, "/x/_payload." + "a" * 8000, "/x/_payload." + "a" * 8000 + "_", "/a.pl" * 1600, "/" + ".phar" * 1600 + "/x", "/_expo/loaders" * 580, "/api/_analog/pages" * 450, "/RSC/R" * 1300 + "/_root.txt", "/assets/data" * 680 + "/index.json", "/assets/data" * 680 + "/xindex.json", "/_nuxt/static" * 620 + "/payload.js", "/_nuxt/static/x/payload.js" * 310, "/_payload" * 900, "/" + "_payload." * 900 + "js",
     "/admin./a.cgi/(s(x)f(y))/e\u0301.php/index.php/a." * 160 + "/a..data"],
)  # fmt: skip
def test_no_path_costs_more_to_compare_than_some_loops_over_its_letters(path: str) -> None:
    assert len(path) < 8_192
    # Split anew each time: the last path is remembered.  Measured 8 at most; without MOST_LETTERS 91.
    assert cost_ratio(lambda: WORLD.routes.match("", "GET", tuple(path[1:].split("/")))) < 30
