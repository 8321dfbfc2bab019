"""How much a run does of what can be done more or less often.

1 is what `make test-slow` does; CI does less (GATEWAY_TEST_SCALE=0.25).
"""

from __future__ import annotations

import os

# Read at import: the suite then clears what is set of GATEWAY_*.
SCALE = float(os.environ.get("GATEWAY_TEST_SCALE", "1"))


def scaled(times: int) -> int:
    """`times` at the scale 1, and never none."""
    return max(1, round(times * SCALE))
