"""Results as JUnit XML, the form that build servers read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from gateway.review.suite import CaseResult

# XML 1.0 has no way to write these.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(results: Iterable[CaseResult]) -> bytes:
    """One `testsuite` a file, one `testcase` a case."""
    by_file: dict[str, list[CaseResult]] = {}
    for result in results:
        by_file.setdefault(result.case.location.file, []).append(result)
    root = Element("testsuites", name="gateway test")
    for file, listed in by_file.items():
        failed = sum(not result.passed for result in listed)
        suite = SubElement(
            root,
            "testsuite",
            name=_clean(file),
            tests=str(len(listed)),
            failures=str(failed),
            errors="0",
            skipped="0",
        )
        for result in listed:
            case = SubElement(
                suite,
                "testcase",
                classname=_clean(file),
                name=_clean(result.case.name),
                file=_clean(file),
                line=str(result.case.location.line),
            )
            if not result.passed:
                message = "; ".join(
                    f"{one.what}: expected {one.expected}, got {one.actual}"
                    for one in result.differences
                )
                failure = SubElement(case, "failure", message=_clean(message), type="difference")
                failure.text = _clean(f"{result.case.location}\n{message}")
    indent(root)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
