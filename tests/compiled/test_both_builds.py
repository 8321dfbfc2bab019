"""Both builds make the same of everything: the same bytes, the same refusals.

Slow where the compiled modules of this tree are not there yet: they are made first."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.access.test_others import CASES
from tests.edge.http1.test_chunked import body as chunked_bodies
from tests.edge.http1.test_request_head import heads as request_heads
from tests.edge.http1.test_request_parser import messages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "corpus"
Case = dict[str, Any]


@dataclass
class Asked:
    """One build, in a process of its own."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, switch: str) -> Asked:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.compiled.answers"],
            cwd=ROOT,
            env=os.environ | {"AUTHGATE_COMPILE": switch, "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return cls(process)

    def line(self) -> object:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "it ended"
        return json.loads(line)

    def answer(self, case: Case) -> object:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        return self.line()


@dataclass
class Builds:
    pure: Asked
    compiled: Asked

    def agreed(self, case: Case) -> object:
        """What both say."""
        pure, compiled = self.pure.answer(case), self.compiled.answer(case)
        assert compiled == pure, case
        return pure


@pytest.fixture(scope="module")
def builds() -> Iterator[Builds]:
    subprocess.run([sys.executable, "deploy/compiled/checkout.py", "compile"], cwd=ROOT, check=True)
    both = Builds(Asked.start("never"), Asked.start("always"))
    assert both.pure.line() == "pure"
    assert both.compiled.line() == "compiled"
    yield both
    for one in (both.pure, both.compiled):
        assert one.process.stdin is not None
        one.process.stdin.close()
        assert one.process.wait(30) == 0


def recorded() -> list[Case]:
    """Every request, answer, decision and token that the corpora of the tests hold."""
    cases: list[Case] = []
    for path in sorted(CORPUS.glob("*.yaml")):
        case = yaml.safe_load(path.read_text("utf-8"))
        cases.append({"kind": "request", "data": "".join(case["client"])})
        upstream = case.get("upstream", "")
        if upstream:
            cases.append({"kind": "response", "data": upstream.partition("\r\n\r\n")[0]})
    for path in sorted((CORPUS / "others").glob("*.yaml")):
        kind = "request" if path.stem.endswith("requests") else "response"
        for vector in yaml.load(path.read_text("utf-8"), yaml.CSafeLoader):
            data = vector["bytes"]
            cases.append({"kind": "request", "data": data})
            if kind == "response":
                head, _, rest = data.partition("\r\n\r\n")
                cases += [{"kind": kind, "data": head}, {"kind": "chunks", "data": rest}]
    cases += [{"kind": "policy", "data": f"{name}: {decision}"} for name, decision in CASES]
    cases += [{"kind": "token", "data": text} for text in TOKENS]
    cases += [{"kind": "target", "data": text} for text in TARGETS]
    cases += [{"kind": "body", "data": text} for text in BODIES]
    cases += [
        {"kind": "identity", "data": "u", "roles": roles}
        for roles in ([], ["a"], ["a", "b c"], ["ä", "%"], ["\ud800"], ["\u2028"], ["x"] * 300)
    ]
    return cases


TOKENS = [
    *("{good}", "{good}.", ".{good}", "{header}.{claims}.", "{header}.{claims}", "{good}x"),
    *("{claims}.{header}.{signature}", "{header}..{signature}", "..", "", "a", "a.b.c", "{good} "),
    *("{header}.{claims}.{signature}=", "{header}.{claims}.{signature}A", "\u00e9.{claims}.x"),
    *("eyJhbGciOiJub25lIn0.{claims}.", "{header}.e30.{signature}", "{header}.bnVsbA.{signature}"),
    "x" * 9_000,
]
TARGETS = [
    *(
        "/",
        "/a",
        "/a/b/",
        "//a",
        "/a//b",
        "/./a",
        "/../a",
        "/a/..",
        "/%2e%2e/a",
        "/a%2fb",
        "/a%5cb",
    ),
    *("/%61", "/%C3%A4", "/%ff", "/%", "/%4", "/%zz", "/a;b", "/a%3bb", "/a%00", "/\u00e4", "*"),
    *(
        "/a?b",
        "/a?a=1",
        "/a?a=1&a=2",
        "/a?A=1&a=2",
        "/a?%61=1",
        "/a?a=%zz",
        "/a?b[c]=1",
        "/a?b%5Bc%5D=1",
    ),
    *(
        "http://h/a",
        "https://h:1/a?x=y",
        "/a?x-auth-user-id=1",
        "/a?id=\u00ff",
        "/a?id=%ff",
        "/%252e",
    ),
    *("/" + "a/" * 500, "/" + "%61" * 900, "/a?" + "&".join(f"k{n}=1" for n in range(300))),
]
BODIES = [
    *(
        "null",
        "1",
        "1.5",
        "[]",
        "{}",
        '{"a": 1}',
        '{"a": {"b": 2}}',
        '{"a": [1]}',
        '{"A": 1, "a": 2}',
    ),
    *('{"meta": {"owner": 9007199254740992.0}}', '{"meta": {"owner": 9223372036854775808}}'),
    *('{"a": 9223372036854775807}', '{"a": -9223372036854775809}', '{"a": 1e400}', '{"a": 1e300}'),
    *('{"a": true}', '{"a": {"b": null}}', "[" * 60 + "]" * 60, '{"a": 18446744073709551616.0}'),
]


def test_each_recorded_case_is_answered_alike(builds: Builds) -> None:
    cases = recorded()
    assert len(cases) > 500
    answers = [builds.agreed(case) for case in cases]
    # Of each kind some that are refused and some that are not, or it would show nothing.
    assert "malformed" in answers
    assert sum("Reason." in json.dumps(answer) for answer in answers) > 100
    assert [answer for answer in answers if str(answer).startswith("raised")] == []


def test_each_recorded_request_is_answered_alike_however_it_is_cut_and_spoilt(
    builds: Builds,
) -> None:
    chance = random.Random(16)
    cases = [case for case in recorded() if case["kind"] in ("request", "response", "chunks")]
    for case in cases:
        for _ in range(4):
            data = list(case["data"])
            for _ in range(chance.randrange(4)):
                at = chance.randrange(len(data) + 1)
                data[at : at + chance.randrange(2)] = chance.choice(SPOILS)
            cuts = [chance.randrange(1 << 12) for _ in range(chance.randrange(5))]
            builds.agreed({**case, "data": "".join(data), "cuts": cuts})


SPOILS = [
    "\0",
    "\r",
    "\n",
    "\r\n",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "\x80",
    "\xff",
    "0",
    "9",
    "f",
    "G",
    "_",
]
SETTINGS = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
cuts = st.lists(st.integers(0, 1 << 12), max_size=6)


@SETTINGS
@given(st.lists(messages | request_heads, max_size=5).map(b"".join), cuts)
def test_requests_that_were_made_up_are_answered_alike(
    builds: Builds, data: bytes, cuts: list[int]
) -> None:
    builds.agreed({"kind": "request", "data": data.decode("latin-1"), "cuts": cuts})


@SETTINGS
@given(chunked_bodies | st.binary(max_size=60), cuts)
def test_chunks_that_were_made_up_are_answered_alike(
    builds: Builds, data: bytes, cuts: list[int]
) -> None:
    builds.agreed({"kind": "chunks", "data": data.decode("latin-1"), "cuts": cuts})


@SETTINGS
@given(st.text("/abz.%25eEfF;?&=[]\\ \t\x00\x7f\xe4+~!*", max_size=40))
def test_targets_that_were_made_up_are_answered_alike(builds: Builds, text: str) -> None:
    builds.agreed({"kind": "target", "data": f"/{text}"})


numbers = st.integers() | st.floats(allow_nan=False) | st.booleans()
values = st.recursive(
    numbers | st.none() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "A", "b", "meta", "owner"]), inner, max_size=4)
    ),
)


@SETTINGS
@given(values)
def test_bodies_that_were_made_up_are_answered_alike(builds: Builds, value: object) -> None:
    builds.agreed({"kind": "body", "data": json.dumps(value)})


@SETTINGS
@given(st.lists(st.text(max_size=6), max_size=5))
def test_callers_that_were_made_up_are_told_alike(builds: Builds, roles: list[str]) -> None:
    builds.agreed({"kind": "identity", "data": "u", "roles": roles})
