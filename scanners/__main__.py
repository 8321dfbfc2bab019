"""Starts a gateway on loopback, runs each scanner against it, prints a table.

    python -m scanners [--quick] [SCANNER…]

Exit code 1: a scanner did not run, or a finding has no verdict.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import yaml

from scanners.outcome import Outcome, failed, judged, table
from scanners.tools import FULL, QUICK, SCANNERS, DidNotRun, Scale, Target
from tests.contract.running import started

REPOSITORY = Path(__file__).parents[1]


def scan(name: str, target: Target, scale: Scale) -> Outcome:
    began = time.monotonic()
    try:
        outcome = judged(SCANNERS[name](target, scale))
    except DidNotRun as reason:
        outcome = Outcome(name, absent=str(reason))
    outcome.seconds = time.monotonic() - began
    return outcome


def specification(url: str, to: Path) -> Path:
    document = yaml.safe_load((REPOSITORY / "docs" / "api-spec.yaml").read_text("utf-8"))
    document["servers"] = [{"url": url}]
    to.write_text(yaml.safe_dump(document), "utf-8")
    return to


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scanners", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller scale: about two minutes")
    parser.add_argument("--keep", type=Path, help="where what the scanners said is kept")
    parser.add_argument("scanner", nargs="*", choices=[*SCANNERS, []], help="all, unless named")
    asked = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="authgate-audit-") as folder:
        logs = (asked.keep or Path(folder) / "logs").absolute()
        logs.mkdir(parents=True, exist_ok=True)
        with started(Path(folder) / "gateway") as running:
            url = f"http://127.0.0.1:{running.port}"
            made = json.loads(running.cli("clients", "create", "scanner", "--json").stdout)
            specified = specification(url, logs / "api.yaml")
            client = (made["client_id"], made["client_secret"])
            names = asked.scanner or list(SCANNERS)
            # An account for each, signed in beforehand: a scanner ends its session, or uses up the
            # attempts of this address.
            tokens = {n: running.sign_in(f"{n}@example.com")["access_token"] for n in names}
            for name in names:
                target = Target(url, specified, tokens[name], client, logs)
                outcomes.append(scan(name, target, QUICK if asked.quick else FULL))
                print(f"{name}: {'done' if outcomes[-1].ran else 'did not run'}", file=sys.stderr)
            alive = running.call("GET", "/.well-known/jwks.json").status == 200
            log = running.log.read_text("utf-8", "replace")
    print(table(outcomes))
    tracebacks = log.count("Traceback")
    errors = log.count('"internal_error"')
    seen = f"tracebacks in its log: {tracebacks}; internal errors: {errors}"
    print(f"afterwards it answers: {'yes' if alive else 'NO'}; {seen}")
    bad = not alive or tracebacks or errors or failed(outcomes)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
