"""What the README shows first: its files load, and its command prints what stands below it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.forked import run_command

README = Path(__file__).parents[1] / "README.md"


def test_the_first_refusal_of_the_readme_is_what_its_files_say(tmp_path: Path) -> None:
    text = README.read_text("utf-8").partition("\n## ")[0]
    for name, content in re.findall(r'```yaml title="([^"]+)"\n(.*?)```', text, re.S):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, "utf-8")
    command, _, printed = text.partition("```console\n$ gateway ")[2].partition("\n")
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("GATEWAY_")}
    answer = run_command(command.split(), folder=tmp_path, environment=environment)
    assert answer.stdout.strip() == printed.partition("```")[0].strip()
    assert (answer.returncode, answer.stderr) == (1, "")
