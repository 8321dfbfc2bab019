"""What schemathesis makes of the OpenAPI text.

Imported where it is used, not at the top of a file: every process of pytest-xdist reads every
file, and schemathesis takes a second to import.
"""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

# A token is a text.
schemathesis.serializer.alias("application/secevent+jwt", "text/plain")
# The others would judge what the text cannot say: which texts of the form of an address mail can
# reach, which passwords are weak.
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
)


def checks() -> Any:
    """Known once a text was read."""
    return CHECKS.get_by_names(CHECKED)


def operations_of(document: dict[str, Any], port: int) -> dict[tuple[str, str], Any]:
    """By path and method, to be asked of the gateway on this port."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=f"http://127.0.0.1:{port}")
    found: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    return {(one.path, one.method): one for one in found}


def cases_of(operation: Any, *, wrong: bool) -> Any:
    """A strategy of hypothesis: calls as the text has them, and, where asked, as it forbids them."""
    cases = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if wrong:
        cases = cases | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return cases


def validate(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()
