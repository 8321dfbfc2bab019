"""Prefixes, wildcard hosts and names of files, as `validate`, `explain`, `test` and `diff` tell them."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from gateway.cli import main

ROUTES = """
version: 1
upstreams: {api: {targets: ["http://127.0.0.1:9001"]}}
routes:
  - id: hub
    match: {prefix: "/user/{name}", hosts: ["*.lab.example.com"]}
    redirect_slash: true
    paths: files
    policy: own
    upstream: api
"""
POLICY = """
version: 1
policy: own
rules:
  - id: own
    allow: ["*"]
    when: request.params.name == user.id
"""
TESTS = """
version: 1
people: {ann: {id: ann}, ben: {id: ben}}
defaults: {}
cases:
  - {name: the name, as: ann, request: {url: /user/ann, host: a.lab.example.com}, expect: allow}
  - {name: the slash, as: ann, request: {url: /user/ann/, host: a.lab.example.com}, expect: allow}
  - {name: below, as: ann, request: {url: "/user/ann/lab/a;b%5Cc", host: b.lab.example.com}, expect: {decision: allow, route: hub}}
  - {name: another's, as: ben, request: {url: /user/ann/lab, host: a.lab.example.com}, expect: 403}
  - {name: a reading that is another's, as: ann, request: {url: "/user/ann;x/lab", host: a.lab.example.com}, expect: 403}
  - {name: a climb, as: ann, request: {url: "/user/ann/..;/x", host: a.lab.example.com}, expect: ambiguous_path}
  - {name: a climb elsewhere, as: ann, request: {url: "/user/ann/..;/x", host: lab.example.com}, expect: ambiguous_path}
  - {name: the domain, as: ann, request: {url: /user/ann, host: lab.example.com}, expect: 404}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policies" / "tests").mkdir(parents=True)
    (tmp_path / "routes.yaml").write_text(dedent(ROUTES))
    (tmp_path / "policies" / "own.yaml").write_text(dedent(POLICY))
    cases = dedent(TESTS).replace("defaults: {}\n", "")
    (tmp_path / "policies" / "tests" / "own.yaml").write_text(cases)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_validate_tells_what_names_of_files_give_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("valid: 1 route")
    assert "routes.yaml:5:" in err
    assert "route `hub` takes `;`, `%5C` and `%25` (`paths: files`)" in err


def test_cases_ask_of_prefixes_hosts_and_names_of_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["test", "--coverage", "--mutate"]) == 0, capsys.readouterr()


def test_explain_tells_where_the_bare_name_is_led(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explain", "GET", "https://a.lab.example.com/user/ann?x=1", "--user-id", "ann"]
    assert main(words) == 0
    out, _ = capsys.readouterr()
    assert "answered with 308 to /user/ann/?x=1" in out
    assert "/user/{name}/**" in out


def test_explain_as_json_has_the_reading(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = dedent(POLICY).replace(
        "request.params.name == user.id", "request.params.name != 'boss'"
    )
    (folder / "policies" / "own.yaml").write_text(policy)
    url = "https://a.lab.example.com/user/b%256fss/y"
    assert main(["explain", "GET", url, "--user-id", "ann", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["reason"], told["rule"]) == ("no_rule", None)
    assert told["read_as"] == "/user/boss/y"
    assert told["params"] == {"name": "boss"}
    assert main(["explain", "GET", url, "--user-id", "ann"]) == 1
    assert "; a backend may read the path as /user/boss/y" in capsys.readouterr().out


def test_diff_tells_of_the_whole_prefix_at_the_wildcard(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = folder / "new"
    other.mkdir()
    (other / "policies").mkdir()
    (other / "routes.yaml").write_text(
        dedent(ROUTES).replace("policy: own", "auth: public").replace("redirect_slash: true", "")
    )
    assert main(["diff", ".", "new", "--fail-on", "widen", "--json"]) == 1
    (change, *others) = json.loads(capsys.readouterr().out)["changes"]
    assert (change["host"], change["path"]) == ("*.lab.example.com", "/user/{name}/**")
    assert all(one["path"] == "/user/{name}/**" for one in others)
