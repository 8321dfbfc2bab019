"""Lines are written whole, to whatever the path leads to, and a reader that stops holds up nobody."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from gateway.telemetry import line_sink
from gateway.telemetry.line_sink import LineSink, LinesLost


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    sink = LineSink(path)
    sink.write(["one", "two"], 1)
    path.rename(tmp_path / "access.log.1")
    sink.write(["three"], 1)
    sink.close()
    assert (tmp_path / "access.log.1").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_several_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    sinks = [LineSink(path), LineSink(path)]
    for number in range(20):
        sinks[number % 2].write([f"line {number}"], 1)
    assert path.read_text().splitlines() == [f"line {number}" for number in range(20)]


def test_a_path_that_cannot_be_written_loses_every_line(tmp_path: Path) -> None:
    with pytest.raises(LinesLost) as lost:
        LineSink(tmp_path).write(["one", "two"], 1)
    assert (lost.value.lost, lost.value.why) == (2, "Is a directory")


def test_a_pipe_that_nobody_reads_loses_what_it_does_not_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(line_sink, "STANDARD_OUTPUT", writer)
    sink = LineSink()
    lines = [f"{number:0999}" for number in range(200)]
    with pytest.raises(LinesLost) as lost:
        sink.write(lines, 0.05)
    assert lost.value.why == "its reader does not read"
    os.close(writer)
    with os.fdopen(reader) as held:
        taken = held.read().splitlines()
    assert taken == lines[: len(taken)]
    assert len(taken) + lost.value.lost == 200
    assert len(taken) > 60


def test_a_pipe_whose_reader_has_gone_loses_lines_and_raises_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(line_sink, "STANDARD_OUTPUT", writer)
    os.close(reader)
    with pytest.raises(LinesLost) as lost:
        LineSink().write(["one"], 1)
    assert (lost.value.lost, lost.value.why) == (1, "Broken pipe")
    os.close(writer)


def test_lines_of_several_writers_to_one_pipe_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(line_sink, "STANDARD_OUTPUT", writer)
    lines = [letter * 900 for letter in "abcd"]

    def write(line: str) -> None:
        for _ in range(10):
            LineSink().write([line] * 30, 5)

    threads = [threading.Thread(target=write, args=(line,)) for line in lines]
    for thread in threads:
        thread.start()
    with os.fdopen(reader) as held:
        taken = [held.readline().rstrip("\n") for _ in range(1_200)]
    for thread in threads:
        thread.join()
    os.close(writer)
    assert sorted(taken) == sorted(lines * 300)
