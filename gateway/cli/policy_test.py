"""`gateway test`: the policy tests, what they cover, and what they would not notice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.access.snapshot import Snapshot
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import compiled
from gateway.cli.output import AsJson, CliError, ExitCode, data, echo, warn
from gateway.model import ConfigProblem
from gateway.review.cases import Case, read_cases
from gateway.review.coverage import Coverage, coverage
from gateway.review.junit import junit
from gateway.review.mutants import MutationReport, mutation_report
from gateway.review.rendering import as_text, status_of
from gateway.review.suite import CaseResult, explained, run_cases
from gateway.review.told_answers import status_for


def register(app: typer.Typer) -> None:
    app.command("test")(run_tests)


def run_tests(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]…", help="Files or folders; policies/tests by default."),
    ] = None,
    with_coverage: Annotated[
        bool, typer.Option("--coverage", help="List rules and routes that no test saw decide.")
    ] = False,
    fail_under: Annotated[
        float | None,
        typer.Option("--fail-under", metavar="%", help="Exit 1 when fewer rules are covered."),
    ] = None,
    mutate: Annotated[
        bool,
        typer.Option(
            "--mutate", help="Change rules, roles, data and routes; list what no test notices."
        ),
    ] = False,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")
    ] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Run the policy tests.  Exit 1 when one fails, or a mutant survives."""
    snapshot = compiled(config, policies)
    results = run_cases(_cases(paths or [policies / "tests"], snapshot), snapshot, status_for)
    failed = [result for result in results if not result.passed]
    if junit_file is not None:
        try:
            junit_file.write_bytes(junit(results))
        except OSError as error:
            raise CliError(f"--junit: {error}", ExitCode.USAGE) from error
    covered = coverage(results, snapshot)
    report = mutation_report(results, snapshot, status_for) if mutate and not failed else None
    if as_json:
        data(_suite_data(results, covered, report))
    else:
        for result in failed:
            _tell_failure(result, snapshot)
        if with_coverage or fail_under is not None:
            _tell_coverage(covered)
        else:
            for route in covered.open_routes:
                warn(f"{route.location}: route {route.id} has no test")
        if report is not None:
            _tell_mutants(report)
        elif mutate:
            warn("--mutate needs tests that pass")
        style = "bold red" if failed else "bold green"
        echo(f"{len(results) - len(failed)} passed, {len(failed)} failed", style=style)
    low = fail_under is not None and covered.rules_percent < fail_under
    if failed or low or (report is not None and report.survivors):
        raise typer.Exit(ExitCode.NO)


def _cases(paths: list[Path], snapshot: Snapshot) -> list[Case]:
    cases: list[Case] = []
    problems: list[ConfigProblem] = []
    for path in paths:
        files = sorted(path.rglob("*.yaml")) if path.is_dir() else [path]
        for file in files:
            try:
                found = read_cases(str(file), file.read_text("utf-8"), snapshot)
            except OSError as error:
                said = f"{file} cannot be read: {error.strerror}"
                raise CliError(said, ExitCode.USAGE) from error
            except UnicodeDecodeError as error:
                raise CliError(f"{file} is not UTF-8", ExitCode.USAGE) from error
            for one in found:
                if isinstance(one, ConfigProblem):
                    problems.append(one)
                else:
                    cases.append(one)
    for problem in problems:
        warn(str(problem))
    if problems:
        raise CliError("the tests are not valid")
    if not cases:
        raise CliError(f"no tests in {', '.join(map(str, paths))}")
    return cases


def _tell_failure(result: CaseResult, snapshot: Snapshot) -> None:
    case = result.case
    echo(f"{case.location}: FAILED {case.name}", style="bold red")
    for difference in result.differences:
        echo(f"  {difference.what}: expected {difference.expected}, got {difference.actual}")
    told = explained(result, snapshot)
    if told is not None:
        decision = result.actual.decision
        for text, style in as_text(decision, status_of(decision, status_for), told):
            echo(f"    {text}" if text else "", style=style)
    echo("")


def _tell_coverage(covered: Coverage) -> None:
    for _, rule in covered.open_rules:
        echo(f"{rule.location}: rule {rule.id} decided in no test", style="yellow")
    for route in covered.open_routes:
        echo(f"{route.location}: route {route.id} has no test", style="yellow")
    seen = covered.rules - len(covered.open_rules)
    called = covered.routes - len(covered.open_routes)
    echo(
        f"rules {seen} of {covered.rules} ({covered.rules_percent:.0f} %), "
        f"routes {called} of {covered.routes} ({covered.routes_percent:.0f} %)"
    )


def _tell_mutants(report: MutationReport) -> None:
    for mutant in report.survivors:
        echo(f"{mutant}: no test notices", style="yellow")
    echo(f"mutants {report.tried}, survived {len(report.survivors)}")


def _suite_data(
    results: list[CaseResult], covered: Coverage, report: MutationReport | None
) -> dict[str, Any]:
    failed = sum(not result.passed for result in results)
    found: dict[str, Any] = {
        "passed": len(results) - failed,
        "failed": failed,
        "cases": [_result_data(result) for result in results],
        "coverage": {
            "rules_percent": round(covered.rules_percent, 1),
            "routes_percent": round(covered.routes_percent, 1),
            "rules_not_decided": [
                {"policy": p.name, "rule": r.id, "file": r.location.file, "line": r.location.line}
                for p, r in covered.open_rules
            ],
            "routes_without_test": [
                {"route": r.id, "file": r.location.file, "line": r.location.line}
                for r in covered.open_routes
            ],
        },
    }
    if report is not None:
        found["mutants"] = {
            "tried": report.tried,
            "survived": [
                {
                    "of": m.of,
                    "name": m.name,
                    "change": m.how,
                    "file": m.location.file,
                    "line": m.location.line,
                }
                for m in report.survivors
            ],
        }
    return found


def _result_data(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.case.name,
        "file": result.case.location.file,
        "line": result.case.location.line,
        "passed": result.passed,
        "differences": [
            {"what": one.what, "expected": one.expected, "got": one.actual}
            for one in result.differences
        ],
    }
