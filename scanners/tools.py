"""The scanners of dependencies, code and a started gateway: how each is started and read.

Each stands in an environment of its own: those of PyPI are run by `uv tool run`, the others come
from the distribution.  All of them talk to loopback only, and each is cut off at its limit.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanners.outcome import Finding, Outcome
from scanners.proxied import FEW, PATHS, Lacking, differences

HERE = Path(__file__).parent
WORDS = HERE / "words.txt"
ANSWERS = (
    "/.well-known/jwks.json",
    "/.well-known/oauth-authorization-server",
    "/auth/me",
    "/auth/captcha",
    "/public/a",
)
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
)
MODULES = (
    *("cookieflags", "csp", "crlf", "exec", "file", "http_headers", "log4shell", "methods"),
    *("permanentxss", "redirect", "shellshock", "spring4shell", "sql", "ssrf", "timesql"),
    *("upload", "xss", "xxe"),
)
DEBIAN = "apt-get install {} (Debian; nikto is in the component non-free)"


@dataclass(frozen=True, slots=True)
class Target:
    """A started gateway; `spec` is the OpenAPI text with its address."""

    url: str
    spec: Path
    token: str
    client: tuple[str, str]
    folder: Path
    """For what scanners write."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how hard."""

    examples: int
    crawl_s: int
    slow_s: int
    level: int
    techniques: str
    """sqlmap's: boolean, error, union; stacked and by time, which takes long."""
    seed: tuple[str, ...]
    """For schemathesis.  CI asks the same each time; `make audit` something new."""


QUICK = Scale(examples=10, crawl_s=20, slow_s=5, level=1, techniques="BEU", seed=("--seed", "1"))
FULL = Scale(examples=50, crawl_s=60, slow_s=20, level=2, techniques="BEUST", seed=())


class DidNotRun(Exception):
    """The text says what to install, or what the scanner said instead of a result."""


def _uv() -> list[str]:
    return [str(HERE.parent / "bootstrap.sh"), "uv"]


def _tool(package: str, program: str) -> list[str]:
    """A scanner of PyPI; uv is that of `./bootstrap.sh`."""
    overrides = str(Path(__file__).with_name("overrides.txt"))
    return [*_uv(), "tool", "run", "--quiet", "--overrides", overrides, "--from", package, program]


def _installed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise DidNotRun(DEBIAN.format(program))
    return found


def _run(words: list[str], limit_s: float, target: Target) -> tuple[int, str]:
    """Exit code and output.  A scanner that does not end has not run."""
    try:
        done = subprocess.run(
            words,
            cwd=target.folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise DidNotRun(f"{words[0]} did not end within {limit_s:.0f} s") from error
    except OSError as error:
        raise DidNotRun(f"{words[0]}: {error.strerror}") from error
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + "\n" + done.stderr)
    (target.folder / f"{len(list(target.folder.glob('*.log'))):02}.log").write_text(text, "utf-8")
    return done.returncode, text


def pip_audit(target: Target, _scale: Scale) -> Outcome:
    """The lock against the databases of PyPA or OSV."""
    needs = target.folder / "requirements.txt"
    words = [*_uv(), "--project", str(HERE.parent), "export", "--quiet", "--frozen", "--no-dev"]
    _run([*words, "--no-emit-project", "--output-file", str(needs)], 60, target)
    words = [*_tool("pip-audit==2.10.1", "pip-audit"), "--strict", "--disable-pip"]
    _, text = _run([*words, "--require-hashes", "-r", str(needs), "-f", "json"], 240, target)
    told = _json_in(text)
    return Outcome(
        "pip-audit",
        [
            Finding("vulnerability", f"{one['name']} {one['version']}: {vulnerability['id']}")
            for one in told["dependencies"]
            for vulnerability in one["vulns"]
        ],
        note=f"{len(told['dependencies'])} packages",
    )


def bandit(target: Target, _scale: Scale) -> Outcome:
    """What it takes for certain; the page of the penetration test says what is left out."""
    words = [
        *_tool("bandit==1.9.4", "bandit"),
        "--quiet",
        "--recursive",
        str(HERE.parent / "gateway"),
    ]
    words += ["--severity-level", "medium", "--confidence-level", "medium", "--skip", "B104"]
    _, text = _run([*words, "-f", "json"], 180, target)
    told = _json_in(text)
    return Outcome(
        "bandit",
        [
            Finding(
                one["issue_severity"].lower(),
                f"{one['test_id']} {one['filename']}:{one['line_number']}: {one['issue_text']}",
            )
            for one in told["results"]
        ],
        note=f"{told['metrics']['_totals']['loc']} lines",
    )


def _json_in(text: str) -> dict[str, Any]:
    """The object that stands among what a scanner prints."""
    start, end = text.find("{"), text.rfind("}")
    try:
        found: dict[str, Any] = json.loads(text[start : end + 1])
    except ValueError as error:
        raise DidNotRun(text.strip()[-300:]) from error
    return found


def schemathesis(target: Target, scale: Scale) -> Outcome:
    words = [
        *_tool("schemathesis==4.32.5", "schemathesis"),
        "run",
        str(target.spec),
        "--url",
        target.url,
        "--header",
        f"Authorization: Bearer {target.token}",
        "--max-examples",
        str(scale.examples),
        *scale.seed,
        "--checks",
        ",".join(CHECKS),
        "--exclude-path",
        "/auth/logout",  # would end the session that the other operations are asked with
        "--no-color",
    ]
    code, text = _run(words, 240, target)
    tested = re.search(r"(\d+) generated", text) or re.search(r"Test cases:\s*\n\s*(\d+)", text)
    if tested is None:
        raise DidNotRun(text.strip()[-300:])
    found = re.findall(r"^- (.+)$", text, re.M) if code else []
    note = f"{tested[1]} cases"
    return Outcome("schemathesis", [Finding("failure", one) for one in found], note=note)


def wapiti(target: Target, scale: Scale) -> Outcome:
    report = target.folder / "wapiti.json"
    words = [
        *_tool("wapiti3==3.2.3", "wapiti"),
        *("-u", f"{target.url}/public/a?name=b", "--swagger", str(target.spec)),
        *("-m", ",".join(MODULES), "--scope", "domain", "--flush-session"),
        *("--header", f"Authorization: Bearer {target.token}"),
        *("--max-scan-time", str(3 * scale.crawl_s), "--max-attack-time", str(scale.crawl_s)),
        *(
            "-t",
            "5",
            "-f",
            "json",
            "-o",
            str(report),
            "--no-bugreport",
            "--store-session",
            str(target.folder),
        ),
    ]
    _, text = _run(words, 6 * scale.crawl_s + 60, target)
    if not report.is_file():
        raise DidNotRun(text.strip()[-300:])
    told = json.loads(report.read_text("utf-8"))
    findings = [
        Finding(
            f"level {one.get('level')}", f"{kind}: {one['method']} {one['path']}: {one['info']}"
        )
        for group in ("vulnerabilities", "anomalies", "additionals")
        for kind, ones in told.get(group, {}).items()
        for one in ones
    ]
    pages = told.get("infos", {}).get("crawled_pages_nbr", "?")
    return Outcome("wapiti", findings, note=f"{pages} pages")


def nikto(target: Target, scale: Scale) -> Outcome:
    program = _installed("nikto")
    words = [program, "-h", target.url, "-nointeractive", "-ask", "no"]
    _, text = _run(words, 6 * scale.crawl_s, target)
    if "Target Port" not in text:
        raise DidNotRun(text.strip()[-300:])
    plain = (
        "Target IP",
        "Target Hostname",
        "Target Port",
        "Start Time",
        "End Time",
        "host(s) tested",
        "items checked",
    )
    told = [line[2:].strip() for line in text.splitlines() if line.startswith("+ ")]
    kept = [line for line in told if not any(word in line for word in plain)]
    checked = re.search(r"(\d+) items checked", text)
    note = f"{checked[1] if checked else '?'} items"
    return Outcome("nikto", [Finding("item", line) for line in kept], note=note)


def sqlmap(target: Target, scale: Scale) -> Outcome:
    program = _installed("sqlmap")
    as_json = ("-H", "Content-Type: application/json")
    bearer = ("-H", f"Authorization: Bearer {target.token}")
    asked = [
        [f"{target.url}/auth/login", *as_json, '--data={"email":"a*@example.com","password":"b"}'],
        [f"{target.url}/auth/refresh", *as_json, '--data={"refresh_token":"a*"}'],
        [f"{target.url}/auth/email/verify", *as_json, '--data={"token":"a*"}'],
        [f"{target.url}/auth/sessions/1*", *bearer, "--method=DELETE"],
        [f"{target.url}/v1/users/1*/orders/1*", *bearer],
        [f"{target.url}/public/a?name=b"],
    ]
    findings = []
    for url, *more in asked:
        words = [program, "-u", url, *more, "--batch", "--flush-session", "--disable-coloring"]
        words += [
            f"--level={scale.level}",
            "--risk=1",
            "--timeout=5",
            "--retries=0",
            f"--technique={scale.techniques}",
        ]
        words += ["--ignore-code=*", "--fresh-queries", f"--output-dir={target.folder / 'sqlmap'}"]
        words += [f"--time-limit={scale.crawl_s}"]
        _, text = _run(words, 3 * scale.crawl_s + 30, target)
        if "testing connection to the target URL" not in text:
            raise DidNotRun(text.strip()[-300:])
        if re.search(r"is vulnerable|identified the following injection", text):
            findings.append(Finding("high", f"injection at {url}"))
    return Outcome("sqlmap", findings, note=f"{len(asked)} places")


def slowhttptest(target: Target, scale: Scale) -> Outcome:
    program = _installed("slowhttptest")
    findings = []
    ways = {
        "slow head": ["-H", "-i", "3"],
        "slow body": ["-B", "-i", "3", "-s", "1000", "-t", "POST"],
        "slow read": ["-X", "-n", "3", "-z", "8"],
    }
    for name, words in ways.items():
        path = "/auth/login" if name == "slow body" else "/.well-known/jwks.json"
        words = [program, *words, "-c", "300", "-r", "150", "-l", str(scale.slow_s), "-p", "3"]
        _, text = _run([*words, "-u", target.url + path], scale.slow_s + 30, target)
        available = re.findall(r"service available:\s*(\w+)", text)
        if not available:
            raise DidNotRun(text.strip()[-300:])
        if "NO" in available:
            findings.append(Finding("high", f"{name}: 300 connections made others wait over 3 s"))
    return Outcome("slowhttptest", findings, note=f"{len(ways)} ways, 300 connections each")


def ffuf(target: Target, _scale: Scale) -> Outcome:
    program = _installed("ffuf")
    findings = []
    for number, place in enumerate(("/FUZZ", "/auth/FUZZ", "/public/../FUZZ", "/.well-known/FUZZ")):
        report = target.folder / f"ffuf-{number}.json"
        words = [
            program,
            "-u",
            target.url + place,
            "-w",
            str(WORDS),
            "-mc",
            "all",
            "-fc",
            "404,400",
        ]
        words += ["-t", "10", "-timeout", "5", "-s", "-of", "json", "-o", str(report)]
        _, text = _run(words, 60, target)
        if not report.is_file():
            raise DidNotRun(text.strip()[-300:])
        for one in json.loads(report.read_text("utf-8"))["results"]:
            path = one["url"].removeprefix(target.url)
            findings.append(Finding("path", f"{one['status']} {path}"))
    count = len(WORDS.read_text("utf-8").splitlines())
    return Outcome("ffuf", findings, note=f"{4 * count} paths")


def redbot(target: Target, _scale: Scale) -> Outcome:
    findings = [
        Finding(level, f"{path}: {note}")
        for path in ANSWERS
        for level, note in _red_notes(target, target.url + path)
        if level in ("warn", "bad")
    ]
    return Outcome("redbot", findings, note=f"{len(ANSWERS)} answers")


def redbot_proxied(target: Target, scale: Scale) -> Outcome:
    """Whether it says anything else of a backend's answer because it came through the gateway."""
    folder = target.folder / "proxied"
    folder.mkdir()
    few = scale is QUICK
    try:
        found = differences(folder, lambda url: _red_names(target, url), few=few)
    except Lacking as lacking:
        raise DidNotRun(str(lacking)) from lacking
    count = sum(map(len, (FEW if few else PATHS).values()))
    name = "redbot-proxied"
    return Outcome(name, [Finding("difference", one) for one in found], note=f"{count} answers")


def _red_names(target: Target, url: str) -> set[str]:
    return {note.partition(":")[0] for _, note in _red_notes(target, url)}


def _red_notes(target: Target, url: str) -> list[tuple[str, str]]:
    """What REDbot says of the answer: level, and name with the summary."""
    _, text = _run([*_tool("redbot==2.7.1", "redbot"), "-o", "har", url], 60, target)
    told = _json_in(text)["log"]["entries"][0]["_red_messages"]
    return [(one["level"].lower(), f"{one['note_id']}: {one['summary']}") for one in told]


SCANNERS = {
    "pip-audit": pip_audit,
    "bandit": bandit,
    "schemathesis": schemathesis,
    "wapiti": wapiti,
    "nikto": nikto,
    "sqlmap": sqlmap,
    "slowhttptest": slowhttptest,
    "ffuf": ffuf,
    "redbot": redbot,
    "redbot-proxied": redbot_proxied,
}
