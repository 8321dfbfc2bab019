"""The console command: its exit codes, and one clear line where something is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from gateway import cli
from gateway.cli import main, output
from gateway.cli.output import CliError, ExitCode
from gateway.stores.protocols import StoreUnavailable

Said = tuple[int, str, str]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Runs a command in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Said:
        code = main(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_the_version_is_printed(run: Callable[..., Said]) -> None:
    code, out, err = run("version")
    assert code == 0
    assert out.startswith("authgate ")
    assert err == ""


def test_the_version_is_printed_as_json(run: Callable[..., Said]) -> None:
    assert set(json.loads(run("version", "--json")[1])) == {"authgate", "python", "build"}


@pytest.mark.parametrize(
    "words",
    [
        ("no-such-command",),
        ("version", "--jsno"),
        ("version", "superfluous"),
        ("users", "no-such-command"),
        ("serve", "--workers"),
        ("explain",),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    run: Callable[..., Said], words: tuple[str, ...]
) -> None:
    code, out, err = run(*words)
    assert code == ExitCode.USAGE
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [(), ("users",), ("keys",)])
def test_a_group_without_a_command_shows_its_help_page_and_exit_code_2(
    run: Callable[..., Said], words: tuple[str, ...]
) -> None:
    code, out, err = run(*words)
    assert code == ExitCode.USAGE
    assert out == ""
    assert "error:" not in err
    assert "\nCommands:\n" in err


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_explains_itself(run: Callable[..., Said], command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Usage: gateway" in out


def test_the_help_lists_every_command(run: Callable[..., Said]) -> None:
    _, out, _ = run("--help")
    for command in cli.COMMANDS:
        assert f" {command} " in out


def test_the_help_says_of_each_command_what_it_says_of_itself() -> None:
    app = cli.build()
    said = {
        str(command.name): command.help or command.callback.__doc__
        for command in app.registered_commands
        if command.callback is not None
    }
    said |= {
        str(group.name): group.typer_instance.info.help
        for group in app.registered_groups
        if group.typer_instance is not None
    }
    first = {name: re.split(r"(?<=\.)\s", str(text).strip())[0] for name, text in said.items()}
    shown = {name: place.summary for name, place in cli.COMMANDS.items()}
    assert {name: " ".join(text.split()) for name, text in first.items()} == shown


def test_wrong_settings_are_listed_and_exit_code_2(
    run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_WORKERS", "many")
    monkeypatch.setenv("GATEWAY_DRAIN_S", "long")
    code, _, err = run("users", "list")
    assert code == ExitCode.USAGE
    assert "GATEWAY_WORKERS" in err
    assert "GATEWAY_DRAIN_S" in err


def test_a_data_folder_that_cannot_be_used_is_exit_code_2(
    run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "file"))
    code, _, err = run("users", "list")
    assert code == ExitCode.USAGE
    assert "GATEWAY_DATA_DIR" in err


def test_a_store_that_is_away_is_exit_code_3(
    run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://user:hunter2@127.0.0.1:1/none")
    code, out, err = run("users", "list", "--json")
    assert code == ExitCode.UNREACHABLE
    assert out == ""
    assert err.startswith("error: ") or "\nerror: " in err
    assert "hunter2" not in err


def failing(error: BaseException) -> Callable[[str | None], typer.Typer]:
    def build(command: str | None = None) -> typer.Typer:
        app = typer.Typer()

        @app.command("version")
        def version() -> None:
            raise error

        app.callback()(lambda: None)
        return app

    return build


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CliError("no"), ExitCode.NO),
        (CliError("away", ExitCode.UNREACHABLE), ExitCode.UNREACHABLE),
        (StoreUnavailable("sql", "away"), ExitCode.UNREACHABLE),
        (KeyError("a defect"), ExitCode.DEFECT),
        (KeyboardInterrupt(), 130),
    ],
)
def test_whatever_happens_there_is_no_traceback(
    run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    monkeypatch.setattr(cli, "build", failing(error))
    found, out, err = run("version")
    assert found == code
    assert out == ""
    assert "Traceback" not in err


def test_json_holds_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal may take U+009B for an escape, and U+202E turns what is read around."""
    agent = "\x1b]0;a\x9b31m\x7f\u202e\udc80é"
    output.data({"agent": agent})
    printed = capsys.readouterr().out
    assert printed == '{\n  "agent": "\\u001b]0;a\\u009b31m\\u007f\\u202e\\udc80é"\n}\n'
    assert json.loads(printed) == {"agent": agent}


def test_what_a_client_sent_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.table([{"agent": "\x1b]0;owned\x07\nrow"}], ["agent"], as_json=False)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2


def test_a_table_in_a_pipe_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, object]] = [
        {"name": "a", "roles": ["x", "y"], "on": True},
        {"name": "long name", "roles": []},
    ]
    output.table(rows, ["name", "roles", "on"], as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "name       roles  on",
        "a          x, y   yes",
        "long name",
    ]


def test_an_empty_table_is_empty_json_and_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    output.table([], ["name"], as_json=True)
    assert json.loads(capsys.readouterr().out) == []
    output.table([], ["name"], as_json=False)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "none\n")
