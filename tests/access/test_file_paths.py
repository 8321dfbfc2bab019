"""`paths: files`: names of files pass as they are, and no reading of them reaches what was not judged."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from urllib.parse import quote, unquote, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.explanation import explain
from gateway.access.routing.path_readings import MOST_READINGS, other_readings
from gateway.access.routing.paths import MOST_SIGNS, canonical
from gateway.access.routing.routes import Auth
from gateway.access.simulation import FixedClock, SimulatedRequest, simulate
from gateway.model import Reason
from gateway.review.diff import compare
from gateway.review.policy_override import rerouted, with_policies, with_route
from tests.access.test_paths import AMBIGUOUS
from tests.access.worlds import NOW, decide, problems, snapshot, who
from tests.cpu_cost import cost_ratio

WORLD = snapshot(
    """
    - {id: files, match: {prefix: /files}, paths: files, auth: public, upstream: api}
    - {id: secret, match: {prefix: /files/secret}, policy: nobody, upstream: api}
    - {id: own, match: {path: "/own/{owner}/{rest:path}"}, paths: files, policy: own, upstream: api}
    - {id: kept, match: {path: "/kept/{name}"}, paths: files, policy: kept, upstream: api}
    - {id: where, match: {prefix: /where}, paths: files, policy: where, upstream: api}
    - {id: strict, match: {prefix: /strict}, auth: public, upstream: api}
    - {id: post, match: {prefix: /post, methods: [POST]}, paths: files, auth: public, upstream: api}
    - id: moved
      match: {prefix: /moved}
      paths: files
      auth: public
      upstream: other
      rewrite: {strip_prefix: /moved}
    - {id: guarded, match: {prefix: /guarded}, policy: nobody, upstream: other}
    """,
    "policy: nobody\nrules: [{id: none, deny: ['*']}]",
    """
    policy: own
    rules:
      - {id: own, allow: ['*'], when: request.params.owner == user.id}
      - {id: not-private, deny: ['*'], when: "request.params.rest.startsWith('private')"}
    """,
    """
    policy: kept
    rules:
      - {id: all, allow: ['*'], when: "request.params.name != 'root'"}
    """,
    """
    policy: where
    rules:
      - {id: all, allow: ['*'], when: "!request.path.startsWith('/where/private/')"}
    """,
)
ANN = who("ann")


@pytest.mark.parametrize(
    "path",
    [
        "/files/report;v1.txt", "/files/a;b;c/d", "/files/;x", "/files/a%3Bb", "/files/;",
        "/files/dir%5Cname.txt", "/files/a%5cb%5cc", "/files/a%5c", "/files/100%2525.txt",
        "/files/a%2541", "/files/50%25%20off;today", "/files/%25;%5C", "/files/caf%C3%A9;1",
        "/files/a%25zz", "/own/ann/a;b", "/own/ann/x%5Cy/z%2520", "/kept/a;b", "/moved/a;b/c",
        "/files/...;a", "/files/a..%5cb", "/files/.hidden;1", "/files/a;..b",
    ],
)  # fmt: skip
def test_a_name_of_a_file_passes_and_its_bytes_are_sent(path: str) -> None:
    decision = decide(WORLD, f"GET {path}", ANN)
    assert decision.allowed, decision.reason
    assert decision.target == path.removeprefix("/moved")


@pytest.mark.parametrize(
    ("path", "rest"),
    [("a;b", "a;b"), ("a%3bb", "a;b"), ("x%5Cy", "x\\y"), ("a%2541", "a%41"), ("a%25", "a%")],
)
def test_parameters_are_decoded_exactly_once(path: str, rest: str) -> None:
    assert decide(WORLD, f"GET /own/ann/{path}", ANN).params == {"owner": "ann", "rest": rest}


CLIMBS = [
    "/files/%252e%252e/x", "/files/..;/x", "/files/..%5cx", "/files/..%5Cx", "/files/a%5c..%5cx",
    "/files/;/../x", "/files/a;/../x", "/files/%2e%2e;x/y", "/files/..%3b/x", "/files/..%253b/x",
    "/files/%255c..%255cx", "/files/a%255c%252e%252e%255cx", "/files/.;/x", "/files/.%5cx",
    "/files/%25252e%25252e/x", "/files/%252e%252e%252fx", "/files/a%252fb", "/files/a%25252fb",
    "/files/a;%5c..%5cx", "/files/a;x=%2e%2e%5c..%5c", "/files/a%3b%5c..%5cb", "/files/;/x",
    "/files/a/;x/b", "/files/%5cx", "/files/%5c%5cserver%5cshare", "/files/a%5c%5cb", "/files/a\\b",
    "/files/a%2500", "/files/a;%00", "/files/a%2500.txt", "/files/a%250d%250ab", "/files/a;%0a",
    "/files/%25c0%25ae%25c0%25ae/x", "/files/a%25c0%25afb", "/files/%25ff", "/files/%25u002e%25u002e/x",
    "/files/a%25u002fb", "/files/a%25u0000", "/files/%252e%252e", "/files/a/..%5c", "/files/..;",
    "/files/%25ef%25bc%258e%25ef%25bc%258e/x", "/files/a%25ef%25bc%258fb", "/files/%25e2%2580%25a5/x",
    "/files/%ef%bc%8e%ef%bc%8e%5cx", "/files/%e2%80%a5;/x", "/files/a%ef%bc%9b/x;", "/files/a;#b",
    "/files/.%252e/x", "/files/%2e%252e;/x", "/files/..;a=b;c/x", "/files/a%5c.%5cb", "/files/a%5c;%5cb",
    "/own/ann/..%5cben/x", "/own/ann%5c..%5cben/x", "/own/ann;/../ben/x", "/own/%252e%252e/x",
]  # fmt: skip


@pytest.mark.parametrize("path", CLIMBS)
def test_no_climb_passes_in_any_spelling(path: str) -> None:
    decision = decide(WORLD, f"GET {path}", ANN)
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH)


@pytest.mark.parametrize("path", AMBIGUOUS)
@pytest.mark.parametrize("below", ["/files", "/own/ann", "/own/ann/x", "/moved"])
def test_every_climb_of_the_corpus_stays_below_a_route_that_takes_files(
    path: str, below: str
) -> None:
    for asked in (
        below + path,
        below + path.replace("%", "%25"),
        below + path.replace("..", "..;"),
    ):
        stays_where_it_was_judged(asked)


@pytest.mark.parametrize(
    "path", ["/strict/a;b", "/strict/a%5cb", "/strict/a%2541", "/none/a;b", "/;x"]
)
def test_a_strict_route_and_none_refuse_alike(path: str) -> None:
    for method in ("GET", "POST", "PUT"):
        decision = decide(WORLD, f"{method} {path}", ANN)
        assert (decision.reason, decision.allow) == (Reason.AMBIGUOUS_PATH, ())


def test_the_methods_of_a_route_for_files_are_told_as_ever() -> None:
    decision = decide(WORLD, "GET /post/a;b")
    assert (decision.reason, decision.allow) == (Reason.METHOD_NOT_ALLOWED, ("POST",))


@pytest.mark.parametrize(
    "path",
    [
        "/files/secret;x", "/files/secret;/x", "/files/secret%5cx", "/files/secret;x=1/y",
        "/files/s%2565cret/x", "/files/s%2565cret", "/files/secret%3b/x", "/files/secret%255cx",
        "/moved/guarded;x", "/moved/guarded;/x", "/moved/guarded%5cx", "/moved/g%2575arded",
    ],
)  # fmt: skip
def test_what_a_backend_reads_as_another_route_is_refused(path: str) -> None:
    assert decide(WORLD, f"GET {path}", ANN).reason == Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize(
    "path", ["/auth;x/login", "/auth%5clogin", "/%2561uth/login", "/auth/login;x"]
)
def test_what_a_backend_reads_as_a_path_of_the_gateway_is_refused(path: str) -> None:
    world = snapshot(
        "- {id: all, match: {prefix: /, except_reserved: true}, paths: files, auth: public, "
        "upstream: api}"
    )
    assert decide(world, "GET /x;y").allowed
    assert decide(world, f"GET {path}").reason == Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize(
    ("path", "read_as"),
    [
        ("/kept/root;x", "/kept/root"),
        ("/kept/r%256fot", "/kept/root"),
        ("/kept/root%3bx", "/kept/root"),
        ("/where/private;x/y", "/where/private/y"),
        ("/where/private%5cy", "/where/private/y"),
        ("/where/pr%2569vate/y", "/where/private/y"),
    ],
)
def test_the_policy_judges_every_reading(path: str, read_as: str) -> None:
    simulated = simulate(SimulatedRequest("GET", path, ANN, clock=FixedClock(NOW)), WORLD)
    decision = simulated.decision
    assert (decision.reason, decision.read_as) == (Reason.NO_RULE, read_as)
    assert simulated.call is not None
    told = explain(decision, simulated.call, WORLD, lambda: NOW)
    assert f"a backend may read the path as {read_as}" in told.sentence


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/own/ann/private%255cx", Reason.NO_RULE),
        ("/own/ann/;x/private", Reason.AMBIGUOUS_PATH),
        ("/own/ann;x/y", Reason.AMBIGUOUS_PATH),
        ("/own/ann/%25private", Reason.RULE_ALLOWED),
        ("/kept/root.", Reason.AMBIGUOUS_PATH),
        ("/kept/root%ef%bc%8e", Reason.AMBIGUOUS_PATH),
    ],
)
def test_what_every_reading_says_alike_names_no_reading(path: str, reason: Reason) -> None:
    decision = decide(WORLD, f"GET {path}", ANN)
    assert (decision.reason, decision.read_as) == (reason, "")


def test_who_owns_a_name_by_one_reading_alone_does_not_own_it() -> None:
    for path in ("/own/ann;x/y", "/own/ann%3bx/y", "/own/%2561nn/y"):
        for caller in ("ann", "ann;x", "%61nn"):
            assert not decide(WORLD, f"GET {path}", who(caller)).allowed


# --- reference readers, written apart from the gateway's ---


def _once(path: str) -> str:
    return unquote_to_bytes(path).decode("utf-8", "replace")


def _again(path: str) -> str:
    path = re.sub("%u([0-9A-Fa-f]{4})", lambda m: chr(int(m[1], 16)), path)
    return unquote(path, errors="replace")


def _backslash(path: str) -> str:
    return path.replace("\\", "/")


def _no_parameters(path: str) -> str:
    return "/".join(part.partition(";")[0] for part in path.split("/"))


def _cut(path: str) -> str:
    return path.partition(";")[0]


def _folded(path: str) -> str:
    return unicodedata.normalize("NFKC", path)


Reader = Callable[[str], str]
BEFORE: tuple[Reader, ...] = (lambda path: path, _no_parameters, _cut)
AFTER: tuple[Reader, ...] = (_again, _backslash, _no_parameters, _cut, _folded)


def backends(path: str) -> Iterator[str]:
    """What backends make of a path as it is sent: cut or not, decoded, then up to four steps."""
    for first in BEFORE:
        decoded = _once(first(path))
        yield decoded
        for count in range(1, 5):
            for steps in permutations((*AFTER, _again), count):
                text = decoded
                for step in steps:
                    text = step(text)
                yield text


def served(text: str) -> str:
    """The file that a careless backend opens."""
    parts: list[str] = []
    for part in text.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def stays_where_it_was_judged(asked: str) -> None:
    """Whatever a backend serves for it, the caller may ask for by its plain name."""
    decision = decide(WORLD, f"GET {asked}", ANN)
    if not decision.allowed:
        return
    assert decision.route is not None
    sent = decision.target.partition("?")[0]
    stripped = "/moved" if decision.route.rewrite else ""
    for text in set(backends(sent)):
        parts = text[1:].split("/")
        assert text.startswith("/"), (asked, text)
        assert not {".", ".."} & set(parts), (asked, text)
        assert "" not in parts[:-1], (asked, text)
        assert not re.search("[\x00-\x1f\x7f-\x9f]", text), (asked, text)
        plain = "/".join(quote(part, safe="") for part in text.split("/"))
        again = decide(WORLD, f"GET {stripped}{plain}", ANN)
        assert again.route is decision.route, (asked, text)
        if "\ufffd" not in text:
            assert again.allowed, (asked, text, again.reason)
        place = served(text) + "/"
        assert not place.startswith(("/files/secret/", "/guarded/")), (asked, text)


TOKENS = st.sampled_from(
    [
        "/", "..", ".", "a", "x", ";", ";x=1", "%3b", "%253b", "%5c", "%255c", "%25255c", "%2e", "%252e",
        "%25", "%2525", "%2f", "%252f", "%00", "%2500", "%20", "secret", "private", "root", "ann", "ben",
        "%u002e", "%25u002e", "%25u005c", "e", "%2565", "%65", "%ef%bc%8e", "%25ef%25bc%258e", "%e2%80%a5",
        "%c3%a9", "%25c3%25a9", "%ff", "%25ff", "guarded", "%ef%bc%9b", "5c", "2e", "3b", "\\",
    ]
)  # fmt: skip
BELOW = st.sampled_from(
    ["/files/", "/files", "/own/ann/", "/own/", "/kept/", "/moved/", "/where/", "/"]
)


@settings(max_examples=250, deadline=None)
@given(BELOW, st.lists(TOKENS, min_size=1, max_size=8).map("".join))
def test_nothing_reaches_what_the_policy_did_not_judge(below: str, rest: str) -> None:
    stays_where_it_was_judged(below + rest)


NAMES = st.sampled_from(["secret", "private", "root", "ann", "guarded", "x", "..", "auth"])
TWICE = st.sampled_from([("e", "%2565"), ("a", "%2561"), ("o", "%6f"), ("", "")])
BETWEEN = st.sampled_from(["/", ";", "%5c", "%255c", "%3b", "%253b", ";/", ";v=1/", "%2f", ""])
PARTS = st.tuples(NAMES, TWICE, BETWEEN).map(lambda one: one[0].replace(*one[1]) + one[2])


@settings(max_examples=250, deadline=None)
@given(BELOW, st.lists(PARTS, min_size=1, max_size=3).map("".join))
def test_no_name_of_another_route_is_reached_by_another_reading(below: str, rest: str) -> None:
    stays_where_it_was_judged(below + rest)


@settings(max_examples=300)
@given(st.lists(TOKENS, max_size=10).map(lambda parts: "/" + "".join(parts)))
def test_files_take_all_that_strict_takes_and_only_three_signs_more(path: str) -> None:
    strict, files = canonical(path), canonical(path, files=True)
    if not isinstance(strict, Reason):
        assert files == strict
        return
    if isinstance(files, Reason):
        return
    assert files.files_only
    text = "/".join(files.segments)
    assert re.search(r";|\\|%[uU]?[0-9A-Fa-f]{2}", text)


# --- cost ---


@pytest.mark.parametrize(
    "path",
    [
        "/files/" + "a;b/" * 2_000, "/files/" + "%5c" * 2_600, "/files/" + "%25" * 2_600,
        "/files/" + "%2525" * 200 + "%255c;" * 200, "/files/" + "%" + "25" * 3_000 + "2e",
        "/files/" + ";a" * MOST_SIGNS + "/b" * 3_500,
        "/files/" + "%C3%A9/" * 900 + "%255c;x" * 80,
        "/files/" + "a/" * 3_000 + ";%255c%253b%25253b%2525255c",
        # U+FDFA folds into 18 letters.
        "/files/a%253bd%255ce%5cf;g%2541" + "%EF%B7%BA" * 850,
        # As many readings as there may be, each with as many spellings.
        "/files/a;b/c%5Cd/e%2541" + "/index.php/a.php" * 490 + ".aaa.bbb",
        "/files/a;b/c%5Cd/e%2541" + "/index.php/a.php" * 47 + ".aaa.bbb",
        "/files/a;b/c;d/e%2541" + "/a.php" * 1_300 + ".data",
    ],
)  # fmt: skip
def test_a_hostile_path_costs_no_more_than_some_loops_over_its_letters(path: str) -> None:
    # Measured 25 at most; without the bounds of all spellings 234.
    assert cost_ratio(lambda: decide(WORLD, f"GET {path}", ANN)) < 80


OFTEN = {
    "letters of Arabic": ("%252541a=%3B%E2%80%8B", "index.php$/.a", "%E2%80%A6(S(x))'.%23f/.txta&"),
    "dots": ("%252541%D9%A7index.php", ".", "(S(x))__next.;/cgi-bin/%207|(="),
    "data of pages": ("_next/data/%D9%A7%25/index.php/rw", "filter.json", "%C3%A9index.php%252541/a;"),
    "scripts": ("%E2%80%A6=%255CID=/a;/_next/data/x", "(*$./index.php%E2%80%8B", "%E2%80%A6+7%25/a;%5C"),
    "folders": ("%E2%80%8B;a%255C", "%C3%A9a/", "b%252541;x.y"),
    "one sign": ("_sources/%20index.php", "admin%E2%80%8F/page-data/", "@x=y;%25"),
}  # fmt: skip


@pytest.mark.parametrize("below", ["/files/", "/where/", "/moved/"])
@pytest.mark.parametrize("sort", OFTEN)
def test_many_readings_of_a_long_path_cost_no_more_than_those_of_a_short_one(
    sort: str, below: str
) -> None:
    before, often, after = OFTEN[sort]
    count = (8_100 - len(below + before + after)) // len(often)
    path = below + before + often * count + after
    # Measured 31 at most; where each reading has as many letters as one, 497.
    assert cost_ratio(lambda: decide(WORLD, f"GET {path}", ANN)) < 80


@pytest.mark.parametrize("below", ["/files/", "/where/", "/moved/"])
@pytest.mark.parametrize(
    ("letter", "count"), [("%E4%B8%AD", 850), ("%D8%B4", 1_250), ("e%CC%81", 1_050), ("x", 3_000)]
)
@pytest.mark.parametrize("name", ["a;1.txt", "a%25.txt", "100%2541.txt", "a%5Cb.txt", ";x%25"])
def test_a_long_name_with_some_signs_passes(below: str, letter: str, count: int, name: str) -> None:
    path = f"{below}{letter * count}/{name}"
    assert len(path) < 8_192
    assert decide(WORLD, f"GET {path}", ANN).allowed


@pytest.mark.parametrize("letter", ["%E4%B8%AD", "%D8%B4", "e%CC%81", "xyz"])
@pytest.mark.parametrize("below", ["/files/", "/where/", "/moved/"])
@pytest.mark.parametrize(
    "name", ["a;b/c%5Cd/e%2541/x.txt", "100%2541%25;v.tar.gz", "v;%25/x.tar.gz"]
)
def test_a_name_of_a_kilobyte_with_many_signs_passes(below: str, letter: str, name: str) -> None:
    path = f"{below}{letter * (1_024 // len(unquote_to_bytes(letter)))}/{name}"
    assert decide(WORLD, f"GET {path}", ANN).allowed


def test_the_spellings_of_all_readings_are_bounded_together() -> None:
    few = "GET /files/a;b/x.tar.gz"
    assert decide(WORLD, few, ANN).reason is not Reason.AMBIGUOUS_PATH
    many = "GET /files/a;b/c%5Cd/e%2541/x.php/y.a.b"
    assert decide(WORLD, many, ANN).reason is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize(
    ("path", "spellings", "taken"),
    [
        ("/files/a%5Cb/c%255Cd/x.php/y.a", [3, 3, 3, 3], True),
        ("/files/a;b/c%5Cd/x.php/y.a.b", [0, 5, 5, 5], True),
        ("/files/a;b/c%5Cd/x.php/y.a.b.c", [0, 6, 6, 6], False),
        ("/files/a%5Cb/c%255Cd/e;f/x.a.b", [0] * 5 + [2] * 9, False),
    ],
)
def test_some_sixteen_other_spellings_of_all_readings_are_the_most(
    path: str, spellings: list[int], taken: bool
) -> None:
    others = other_readings(path) or []
    assert [len(WORLD.routes.spellings(one).paths) - 1 for one in others] == spellings
    reason = decide(WORLD, f"GET {path}", ANN).reason
    assert (reason is not Reason.AMBIGUOUS_PATH) is taken


def test_readings_are_bounded_in_number() -> None:
    found = other_readings("/a;b%5cc%255cd%253be%25253bf")
    assert found is None or len(found) <= MOST_READINGS
    assert other_readings("/" + ";a" * (MOST_SIGNS + 1)) is None


# --- telling ---


def test_validate_tells_what_a_route_for_files_gives_up() -> None:
    told = [str(one) for one in WORLD.notices if "paths: files" in str(one)]
    assert len(told) == sum(route.takes_files for route in WORLD.routes) == 6
    assert "decodes twice" in told[0]


def test_paths_are_strict_or_files() -> None:
    (said,) = problems("- {id: a, match: {path: /a}, auth: public, upstream: api, paths: loose}")
    assert "`paths`" in said
    world = snapshot(
        "- {id: a, match: {path: '/{x}', except_reserved: true}, auth: public, upstream: api, paths: strict}"
    )
    assert decide(world, "GET /a;b").reason == Reason.AMBIGUOUS_PATH


def test_diff_tells_that_more_paths_pass() -> None:
    route = "- {id: a, match: {prefix: /app}, auth: public, upstream: api%s}"
    strict, files = snapshot(route % ""), snapshot(route % ", paths: files")
    (gain,) = [str(one) for one in compare(strict, files).changes]
    assert "GAINS any method /app/**" in gain
    assert "`the path holds `;`, `%5C` or `%25`` is true" in gain
    (loss,) = [str(one) for one in compare(files, strict).changes]
    assert "LOSES" in loss
    assert compare(files, files).changes == []


def test_a_configuration_with_an_exchanged_route_refuses_alike() -> None:
    (kept,) = [route for route in WORLD.routes if route.id == "kept"]
    for other in (
        with_route(WORLD, replace(kept, auth=Auth.PUBLIC, policy=None)),
        rerouted(WORLD, kept, None),
        with_policies(WORLD, WORLD.policies),
    ):
        for path in ("/none/a;b", "/files/..;/x", "/post/a;b", "/files/secret;x"):
            assert decide(other, f"GET {path}").reason == decide(WORLD, f"GET {path}").reason
