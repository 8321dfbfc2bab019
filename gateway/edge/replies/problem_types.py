"""The `type` of a problem (RFC 9457 section 3.1.1): a name of ours, or the address of its page."""

from __future__ import annotations

_NAME = "urn:authgate:reason:"
_HEAD = b'{"type": "' + _NAME.encode("ascii")


class ProblemTypes:
    """`url` is where the pages of the reasons are: `{reason}` in it stands for the word, which
    else is its last segment.  None leaves the name."""

    def __init__(self, url: str | None = None) -> None:
        self._url = url

    def of(self, reason: str) -> str:
        if self._url is None:
            return _NAME + reason
        if "{reason}" in self._url:
            return self._url.replace("{reason}", reason)
        return f"{self._url.rstrip('/')}/{reason}"

    def linked(self, document: bytes) -> bytes:
        """A document of `problems.problem_parts` with the type that is wanted; any other as it
        is."""
        if self._url is None or not document.startswith(_HEAD):
            return document
        reason, quote, rest = document[len(_HEAD) :].partition(b'"')
        return b'{"type": "' + self.of(reason.decode("ascii")).encode("ascii") + quote + rest
