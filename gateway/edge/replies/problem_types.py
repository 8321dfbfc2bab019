"""The `type` of a problem (RFC 9457 section 3.1.1): a name of ours, or the address of its page."""

from __future__ import annotations

from gateway.call_trace import current_call

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


class TracedProblemTypes(ProblemTypes):
    """Each problem names the trace of its call besides; taken where traces are on."""

    def linked(self, document: bytes) -> bytes:
        trace = current_call.get()
        if trace is not None and document.startswith(_HEAD) and document.endswith(b"}"):
            document = document[:-1] + b', "trace_id": "%b"}' % trace.trace_id.encode("ascii")
        return super().linked(document)
