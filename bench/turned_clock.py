"""The wall clock of programs that are started here, turned while they run."""

from __future__ import annotations

import os
from pathlib import Path

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
"""None where it is not here: apt-get install faketime."""


class TurnedClock:
    """Of whatever is started with `environment`; the clocks that never jump are the machine's.

    The library is loaded without `faketime`, and without what either shares in memory: a process
    that is killed leaves that behind, and a later one of the same id fails over it.
    """

    def __init__(self, folder: Path, read_again_s: int = 0) -> None:
        """A program looks after so many seconds whether it was turned, or whenever it asks
        what time it is.  Raises RuntimeError where there is no LIBRARY."""
        if LIBRARY is None:
            raise RuntimeError("libfaketime is not here: apt-get install faketime")
        self._note = folder / "offset"
        self.turn(0)
        self.environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._note),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "NO_FAKE_STAT": "1",
        }
        if read_again_s:
            self.environment["FAKETIME_CACHE_DURATION"] = str(read_again_s)
        else:
            self.environment["FAKETIME_NO_CACHE"] = "1"

    def turn(self, seconds: int) -> None:
        """To the machine's time and so many seconds, in one write."""
        fresh = self._note.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}")
        os.replace(fresh, self._note)
