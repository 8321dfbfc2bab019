"""Writes the lists anew."""

from __future__ import annotations

from tests.access.test_told import KINDS, told_of
from tests.access.test_told_decisions import told
from tests.access.told import FOLDER, told_anew

for name, find in KINDS.items():
    lines = told_anew(name, "^", told_of(find))
    (FOLDER / f"{name}.txt").write_text("\n".join([*lines, ""]), "utf-8")
lines = told_anew("explanations", "", told)
(FOLDER / "explanations.txt").write_text("\n".join([*lines, ""]), "utf-8")
