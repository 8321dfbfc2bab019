"""How the text is read: YAML's words, numbers, aliases and depths, and where its mistakes are told."""

from __future__ import annotations

import pytest

from gateway.config.compile import Sources, compile_snapshot
from tests.access.worlds import problems, snapshot
from tests.config.texts import PUBLIC


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("a: [", "not YAML"),
        ("version: 1\nversion: 1\n", "2:1: `version` stands here twice; the first is on line 1"),
        ("version: 2\n", "1:10: this gateway reads `version: 1`"),
        ('version: "2"\n', "this gateway reads `version: 1`"),
        ("routes: []\n", "1:1: `version: 1` is missing"),
        ("- a\n", "is a block of `name: value` lines"),
        ("version: 1\nroutes: {}\n", "2:9: `routes` is a list"),
        ("version: 1\nupstreams: [a]\n", "is a block of `name: value` lines"),
        ("version: 1\nlimits:\n  x: 7\n", "is a block of `name: value` lines"),
        ("version: 1\n---\nversion: 1\n", "not YAML"),
        ("version: 1\nauth: {cors: !!python/name:os.system x}\n", "2:14: tags such as `!!python"),
        ("version: 1\nroutes: !!python/object/apply:os.system [ls]\n", "tags such as"),
        ("!!python/object:x\nversion: 1\n", "tags such as"),
        ("version: 1\nx\x00: 1\n", "not YAML: a control character"),
        ("version: 1\n\tx: 1\n", "not YAML"),
        ("version: 1\n? [a]\n: b\n", "a name is plain text"),
        ("version: 1\nlimits: {x: {<<: {key: user}, rate: 1/1s}}\n", "unknown key `<<`"),
    ],
)
def test_what_is_no_configuration_is_told_where(text: str, said: str) -> None:
    found = compile_snapshot(Sources(("routes.yaml", text)))
    assert isinstance(found, list)
    assert any(said in str(problem) for problem in found), [str(problem) for problem in found]


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Yes"])
def test_yes_and_no_are_texts(word: str) -> None:
    # YAML 1.1 would make them true and false.
    world = snapshot(f"- {{id: {word}, match: {{path: /{word}}}, auth: public, upstream: api}}")
    assert world.routes.get(word) is not None


@pytest.mark.parametrize("word", ["true", "null", "7", "1.5", "~"])
def test_what_yaml_reads_as_no_text_is_no_name(word: str) -> None:
    said = problems(f"- {{id: {word}, match: {{path: /a}}, auth: public, upstream: api}}")
    assert "`id`" in said[0]


@pytest.mark.parametrize("word", ["0o\u00b2", "0o\u0663"])
def test_digits_of_another_script_are_text(word: str) -> None:
    said = problems(f"- {{id: {word}, match: {{path: /a}}, auth: public, upstream: api}}")
    assert said == problems(f"- {{id: '{word}', match: {{path: /a}}, auth: public, upstream: api}}")


def test_a_number_with_leading_zero_is_decimal() -> None:
    world = snapshot(
        PUBLIC, "policy: p\nrules: [{id: a, allow: ['x'], when: user.claims.n == 010}]"
    )
    assert "p" in world.policies


def test_an_alias_stands_for_what_it_names() -> None:
    world = snapshot(
        """
        version: 1
        upstreams: {api: &u {targets: ["http://h:1"]}, two: *u}
        routes: []
        """
    )
    assert world.upstreams["two"].targets == world.upstreams["api"].targets


def test_data_that_unfolds_without_end_is_refused() -> None:
    bomb = "version: 1\nl0: &l0 [a, a, a, a, a, a, a, a, a, a]\n" + "".join(
        f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    said = problems(PUBLIC, data__bomb=bomb)
    assert any("aliases that unfold without end" in line for line in said)


def test_a_deeply_nested_file_is_refused() -> None:
    found = compile_snapshot(Sources(("routes.yaml", "version: 1\nroutes: " + "[" * 5000)))
    assert isinstance(found, list)
