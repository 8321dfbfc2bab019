"""What a scanner found, and what was decided of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SHOWN = 160


@dataclass(slots=True)
class Finding:
    """One thing that a scanner complains of; `text` is what verdicts are looked up by."""

    level: str
    text: str
    verdict: str | None = None


@dataclass(slots=True)
class Outcome:
    """One scanner.  `absent` says what to install where it could not run."""

    scanner: str
    findings: list[Finding] = field(default_factory=list)
    absent: str | None = None
    seconds: float = 0.0
    note: str = ""

    @property
    def ran(self) -> bool:
        return self.absent is None

    @property
    def open(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict is None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding that was looked at: which, and why nothing is changed for it.

    `docs/security/penetration-test.md` holds the same in prose.
    """

    scanner: str
    pattern: str
    why: str


_ECHO = "The backend of this test answers /public/a; the field is its own and passes unchanged."
_CSP = "frame-ancestors 'none' of the CSP stands on every answer of ours, and replaces it."

VERDICTS: tuple[Verdict, ...] = (
    Verdict("wapiti", r"GET /public/a: CSP is not set", _ECHO),
    Verdict("wapiti", r"GET /public/a: X-Frame-Options is not set", _ECHO),
    Verdict("wapiti", r"GET /: X-Frame-Options is not set", _CSP),
    Verdict("wapiti", r"GET /public/a: .*cookie : theirs", _ECHO),
    Verdict(
        "wapiti",
        r"^Spring4Shell: ",
        "Wrong: the module takes any two different refusals for it (without a body 401 or 204, "
        "with a form 415). There is no Java here.",
    ),
    Verdict(
        "wapiti",
        r"^HTTP Methods: ",
        "OPTIONS is 405 with Allow; the public route has no `methods`, so its backend gets any.",
    ),
    Verdict("nikto", r"^Server: authgate$", "The product's name, without a version, on purpose."),
    Verdict("nikto", r"X-Frame-Options header is not present", _CSP),
    Verdict("nikto", r"^Uncommon header '(referrer|x-content|proxy|content-sec|x-req)", "Ours."),
    Verdict("nikto", r"^No CGI Directories found", "There are none."),
    Verdict("nikto", r"^Retrieved via header: 1.1 authgate", "RFC 9110 section 7.6.3 asks for it."),
    Verdict("nikto", r"'x-upstream'|Cookie theirs|'set-cookie'", _ECHO),
    Verdict("ffuf", r"^(405 /auth/login|401 /auth/sessions|405 /auth/token)$", "Documented."),
    Verdict("redbot", r"/public/a: FRESHNESS_HEURISTIC", _ECHO),
    Verdict(
        "redbot",
        r"STORE_PUBLIC_UNNECESSARY",
        "`public` says that shared caches may keep a public document, whatever else stands there.",
    ),
    Verdict("redbot-proxied", r"^\+ VIA_PRESENT", "RFC 9110 section 7.6.3 asks for it."),
    Verdict(
        "redbot-proxied",
        r"^- FIELD_DEPRECATED: (/express/\w+(, )?)+$",
        "`Keep-Alive` speaks of node's own connection, and ends here.",
    ),
)


def judged(outcome: Outcome) -> Outcome:
    for finding in outcome.findings:
        for verdict in VERDICTS:
            if verdict.scanner == outcome.scanner and re.search(verdict.pattern, finding.text):
                finding.verdict = verdict.why
    return outcome


def failed(outcomes: list[Outcome]) -> bool:
    """A scanner that did not run has shown nothing: as bad as a finding that nobody judged."""
    return any(not one.ran or one.open for one in outcomes)


def table(outcomes: list[Outcome]) -> str:
    lines = [f"{'scanner':<16}{'ran':<6}{'time':>7}  {'findings':>8}  {'open':>5}  note"]
    for one in outcomes:
        ran = "yes" if one.ran else "NO"
        counts = f"{len(one.findings):>8}  {len(one.open):>5}"
        note = one.note if one.ran else " ".join((one.absent or "").split())
        lines.append(f"{one.scanner:<16}{ran:<6}{one.seconds:>6.0f}s  {counts}  {note}")
    for one in outcomes:
        for finding in one.findings:
            mark = "open" if finding.verdict is None else "judged"
            lines.append(f"  {one.scanner}: {mark}: [{finding.level}] {finding.text[:SHOWN]}")
            if finding.verdict is not None:
                lines.append(f"    {finding.verdict}")
    return "\n".join(lines)
