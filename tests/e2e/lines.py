"""The lines that `gateway dev` prints, run as a newcomer would: pasted into one plain sh.

As a program it is given the file that holds the output of `make run`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from gateway.app.quickstart import DemoUser, steps


class LinesWrong(AssertionError):
    """A printed line did not do what it says."""


def printed_commands(output: str) -> list[str]:
    """The commands between the remark that they work and the list of names at the end."""
    _, _, rest = output.partition("Try it;")
    block = rest.partition("\nDemo user")[0].partition("\n\n")[2]
    return [line for line in block.splitlines() if line and not line.startswith("#")]


def run_lines(output: str) -> list[tuple[str, str]]:
    """Runs them in one shell, in order; each command with what it printed.

    Raises LinesWrong when one fails or prints something else than it should.
    """
    commands = printed_commands(output)
    registers = any("/register" in command for command in commands)
    expected = [step.expect for step in steps("", DemoUser("", ""), registers=registers)]
    if len(commands) != len(expected):
        raise LinesWrong(f"{len(commands)} lines were printed, {len(expected)} were meant")
    mark = "== end of line =="
    script = "".join(f"{command}\necho; echo '{mark}' $?\n" for command in commands)
    done = subprocess.run(
        ["sh"], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    parts = re.split(rf"\n{mark} (\d+)\n", done.stdout)
    shown = list(zip(commands, parts[0::2], parts[1::2], strict=False))
    if len(shown) != len(commands):
        raise LinesWrong(f"the shell ended early: {done.stdout}\n{done.stderr}")
    for (command, said, code), wanted in zip(shown, expected, strict=True):
        if code != "0" or wanted not in said or (not wanted and said.strip()):
            raise LinesWrong(f"$ {command}\n{said}\nended with {code}; wanted {wanted!r}")
    if done.stderr:
        raise LinesWrong(f"something was complained about: {done.stderr}")
    return [(command, said) for command, said, _ in shown]


if __name__ == "__main__":
    for command, said in run_lines(Path(sys.argv[1]).read_text("utf-8")):
        print(f"$ {command}\n{said}".rstrip())
