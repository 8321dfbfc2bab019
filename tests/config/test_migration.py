"""Renamed words written anew: nothing else of a text changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.renames import ANY, RENAMES, Document, Rename
from gateway.app.settings import names
from gateway.app.settings_migration import migrate_settings
from gateway.config.migration import migrate_yaml

ROUTES = [one for one in RENAMES if one.document is Document.ROUTES]
SETTINGS = [one for one in RENAMES if one.document is Document.SETTINGS]
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "gateway" / "schemas" / "routes.json").read_text("utf-8")
)

OLD = """\
# respond stays in a comment
version: 1
defaults: {auth: required, on_change: "rejudge"}   # rejudge
upstreams:
  respond: {targets: ["http://127.0.0.1:1"]}

routes:
    - id: "respond"   # two spaces more than anybody needs
      match:   {path: '/{x:path}', 'except_own' : true}
      upstream: respond
      on_change:     rejudge
    - {id: b, match: {path: /b}, respond: {body: "respond: rejudge"}}
"""
NEW = """\
# respond stays in a comment
version: 1
defaults: {auth: required, on_change: "reevaluate"}   # rejudge
upstreams:
  respond: {targets: ["http://127.0.0.1:1"]}

routes:
    - id: "respond"   # two spaces more than anybody needs
      match:   {path: '/{x:path}', 'except_reserved' : true}
      upstream: respond
      on_change:     reevaluate
    - {id: b, match: {path: /b}, direct_response: {body: "respond: rejudge"}}
"""


def migrated(text: str) -> str:
    found = migrate_yaml("routes.yaml", text, ROUTES)
    assert found.problems == ()
    return found.text


def problem(text: str) -> str:
    found = migrate_yaml("routes.yaml", text, ROUTES)
    assert found.text == text
    assert found.replacements == ()
    (told,) = found.problems
    return str(told)


def test_old_words_are_renamed_where_they_stand_and_nothing_beside_them() -> None:
    assert migrated(OLD) == NEW


def test_what_was_migrated_has_nothing_to_rename() -> None:
    assert migrate_yaml("routes.yaml", NEW, ROUTES).replacements == ()


@pytest.mark.parametrize("written", ["\ufeff" + OLD, OLD.replace("\n", "\r\n"), "# 😀 é\n" + OLD])
def test_marks_line_ends_and_wide_characters_shift_nothing(written: str) -> None:
    assert migrated(written) == written.replace(OLD, NEW).replace(
        OLD.replace("\n", "\r\n"), NEW.replace("\n", "\r\n")
    )


def test_each_word_is_told_with_its_line_and_its_column() -> None:
    found = migrate_yaml("routes.yaml", OLD, ROUTES)
    assert str(found.replacements[1]) == (
        "routes.yaml:9:36: `except_own` is `except_reserved` since 0.1"
    )


def test_both_words_in_one_block_are_left_to_the_operator() -> None:
    text = "routes:\n- {respond: {body: a}, direct_response: {body: b}}\n"
    assert problem(text) == (
        "routes.yaml:2:4: `respond` and `direct_response` stand side by side: take out one of them"
    )


@pytest.mark.parametrize("value", ['"re\\x6audge"', "|-\n    rejudge"])
def test_a_word_that_is_not_written_plainly_is_left_to_the_operator(value: str) -> None:
    assert "write `reevaluate` by hand" in problem(f"routes:\n- on_change: {value}\n")


def test_a_value_that_an_alias_uses_for_something_else_is_left_to_the_operator() -> None:
    text = "routes:\n- {id: &name rejudge, on_change: *name}\n"
    assert "alias" in problem(text)


def test_a_value_that_aliases_use_for_the_same_is_renamed_once() -> None:
    text = "routes:\n- on_change: &word rejudge\n- on_change: *word\n"
    assert migrated(text) == text.replace("rejudge", "reevaluate")


def test_what_is_no_yaml_is_told_with_its_line() -> None:
    assert problem("routes: [\n").startswith("routes.yaml:2:1: not YAML")


@pytest.mark.parametrize(
    "text", ["", "\n", "# nothing\n", "- a\n", "routes: {a: b}\n", "routes: respond\n"]
)
def test_a_file_without_an_old_word_is_left_as_it_is(text: str) -> None:
    found = migrate_yaml("routes.yaml", text, ROUTES)
    assert (found.text, found.replacements) == (text, ())


def test_aliases_that_unfold_without_end_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.config.migration.MAX_NODES", 50_000)
    bomb = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))
    assert problem(f"l0: &l0 a\n{bomb}routes:\n- on_change: rejudge\n")


def test_a_policy_and_a_list_of_named_blocks_have_words_too() -> None:
    """The table knows none of them yet."""
    renames = [
        Rename(Document.POLICY, ("rules", ANY), "permit", "allow", "9.9"),
        Rename(Document.POLICY, ("roles", ANY), "extends", "inherits", "9.9"),
    ]
    text = "roles:\n  permit: {extends: [a]}  # extends\nrules:\n- permit: [permit]\n"
    assert migrate_yaml("p.yaml", text, renames).text == (
        "roles:\n  permit: {inherits: [a]}  # extends\nrules:\n- allow: [permit]\n"
    )


SCALARS = st.sampled_from(["respond", "rejudge", "except_own", "a", "é😀"])
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["routes", "match", "respond", "on_change", "except_own", "defaults"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=25,
)


@given(tree=TREES, flow=st.booleans(), quote=st.sampled_from([None, '"', "'"]))
def test_whatever_a_file_says_it_says_the_same_with_its_words_renamed(
    tree: Any, flow: bool, quote: str | None
) -> None:
    text = yaml.safe_dump(
        {"routes": [tree]}, default_flow_style=flow, default_style=quote, allow_unicode=True
    )
    found = migrate_yaml("routes.yaml", text, ROUTES)
    assert found.problems == ()
    assert yaml.safe_load(found.text) == {"routes": [renamed(tree)]}


def renamed(route: Any) -> Any:
    if not isinstance(route, dict):
        return route
    fields = dict(route)
    if fields.get("on_change") == "rejudge":
        fields["on_change"] = "reevaluate"
    if isinstance(fields.get("match"), dict):
        fields["match"] = {
            "except_reserved" if key == "except_own" else key: value
            for key, value in fields["match"].items()
        }
    return {"direct_response" if key == "respond" else key: value for key, value in fields.items()}


# The table


@pytest.mark.parametrize("rename", ROUTES, ids=lambda one: f"{'.'.join(one.within)}.{one.old}")
def test_every_new_word_is_one_that_the_schema_knows_and_no_old_one_is(rename: Rename) -> None:
    text = json.dumps(SCHEMA)
    assert f'"{rename.new}"' in text
    assert f'"{rename.old}"' not in text


@pytest.mark.parametrize("rename", SETTINGS, ids=lambda one: one.old)
def test_every_new_setting_is_one_and_no_old_one_is(rename: Rename) -> None:
    assert rename.new in names()
    assert rename.old not in names()


def test_every_rename_is_in_the_list_of_changes() -> None:
    changes = (Path(__file__).parents[2] / "CHANGELOG.md").read_text("utf-8")
    for one in RENAMES:
        (line,) = [line for line in changes.splitlines() if f"{one.old}`" in line]
        assert f"{one.new}`" in line


# Settings


def test_settings_are_renamed_and_no_value_is_touched() -> None:
    text = (
        "# GATEWAY_CLIENT_STALL_S=1\nexport GATEWAY_CLIENT_STALL_S=60\r\n"
        "GATEWAY_KEY_SECRET='a\nGATEWAY_AUDIT_KEEP_DAYS=5\n'\n"
        '  GATEWAY_AUDIT_KEEP_DAYS = "GATEWAY_AUDIT_KEEP_DAYS"  # kept'
    )
    found = migrate_settings(".env", text, SETTINGS)
    assert found.text == (
        "# GATEWAY_CLIENT_STALL_S=1\nexport GATEWAY_CLIENT_WRITE_TIMEOUT_S=60\r\n"
        "GATEWAY_KEY_SECRET='a\nGATEWAY_AUDIT_KEEP_DAYS=5\n'\n"
        '  GATEWAY_AUDIT_RETENTION_DAYS = "GATEWAY_AUDIT_KEEP_DAYS"  # kept'
    )
    assert [str(one.location) for one in found.replacements] == [".env:2", ".env:6"]


def test_a_setting_under_both_names_is_left_to_the_operator() -> None:
    text = "GATEWAY_CLIENT_STALL_S=1\nGATEWAY_CLIENT_WRITE_TIMEOUT_S=2\n"
    (told,) = migrate_settings(".env", text, SETTINGS).problems
    assert str(told).startswith(".env:1:1: `GATEWAY_CLIENT_STALL_S` and")


@given(st.text(alphabet="AB=\n\r '\"#\\$é\ufeff ", max_size=60))
def test_no_text_of_settings_is_changed_but_in_names(text: str) -> None:
    renames = [Rename(Document.SETTINGS, (), "AB", "CD", "9.9")]
    found = migrate_settings(".env", text, renames)
    assert found.text.replace("CD", "AB") == text
