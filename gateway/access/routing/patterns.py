"""Path patterns: `/v1/users/{user_id}/{rest:path}`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType

from gateway.access.routing.own_paths import (
    DOCUMENTS,
    PROTECTED_RESOURCE,
    WELL_KNOWN,
    OwnPaths,
    document_path,
)
from gateway.access.routing.paths import canonical, encoded
from gateway.access.routing.routes import PatternSegment, SegmentKind
from gateway.model import Reason

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}\Z")


_KINDS = MappingProxyType(
    {
        "int": SegmentKind.INT,
        "uuid": SegmentKind.UUID,
        "path": SegmentKind.REST,
        None: SegmentKind.PLAIN,
    }
)


@dataclass(frozen=True, slots=True)
class ReservedPath:
    """A path that is no route's."""

    name: str
    whole: bool
    """Whether a pattern matches nothing but such paths: it would be dead."""


def read_pattern(text: str) -> tuple[PatternSegment, ...] | str:
    """The segments of a path pattern, or a sentence about what is wrong with it."""
    if not text.startswith("/"):
        return f"`{text}` is no path: begin it with `/`"
    pieces = text[1:].split("/")
    segments: list[PatternSegment] = []
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        if "{" in piece or "}" in piece:
            parameter = _parameter(piece, last=last)
            if isinstance(parameter, str):
                return parameter
            if any(
                s.kind is not SegmentKind.LITERAL and s.text == parameter.text for s in segments
            ):
                return f"the parameter `{{{parameter.text}}}` stands twice in the path"
            segments.append(parameter)
            continue
        plain = piece if "%" in piece else encoded(piece)
        read = canonical("/" + plain)
        if isinstance(read, Reason) or (not piece and not last):
            return f"no call could have the segment `{piece}`: such paths are refused as ambiguous"
        segments.append(PatternSegment(SegmentKind.LITERAL, read.segments[0]))
    return tuple(segments)


def read_prefix(text: str) -> tuple[PatternSegment, ...] | str:
    """The segments of a prefix, none of `/`, or a sentence about what is wrong with it.

    What it takes besides its own path has no name, so a `{name}` may stand in it as in any
    path, and a rest may not.
    """
    if text == "/":
        return ()
    segments = read_pattern(text)
    if isinstance(segments, str):
        return segments
    last = segments[-1]
    if last.kind is SegmentKind.REST:
        return f"a prefix takes all that is below it: leave `/{{{last.text}:path}}` out"
    if last.kind is SegmentKind.LITERAL and not last.text:
        shorter = text.rstrip("/")
        return f"leave the last `/` out: `{shorter}` takes `{shorter}/` and all below it as well"
    return segments


def _parameter(piece: str, *, last: bool) -> PatternSegment | str:
    match = _PARAMETER.match(piece)
    if match is None:
        return f"`{piece}`: a parameter is a whole segment, `{{name}}` or `{{name:uuid}}`"
    name, kind = match.groups()
    if kind not in _KINDS:
        return f"`{{{name}:{kind}}}`: a parameter is `:int`, `:uuid`, `:path` or plain"
    if kind == "path" and not last:
        return f"`{{{name}:path}}` takes the rest of a path, so it stands last"
    return PatternSegment(_KINDS[kind], name)


def reserved_path(
    segments: tuple[PatternSegment, ...], host: str | None, own_paths: OwnPaths
) -> ReservedPath | None:
    """The path of the gateway's own that a pattern of `host` would match; None where it matches
    none.  Without `host` the pattern is of every host."""
    if _takes(segments, own_paths.segments, or_below=True):
        exact = _takes(segments, own_paths.segments) and segments[-1].kind is not SegmentKind.REST
        name = own_paths.prefix if exact else f"{own_paths.prefix}/…"
        literal = _literal(segments[: len(own_paths.segments)])
        return ReservedPath(name, whole=literal and len(segments) >= len(own_paths.segments))
    if own_paths.has_documents(host):
        for name in sorted(DOCUMENTS):
            if _takes(segments, (WELL_KNOWN, name)):
                return ReservedPath(document_path(name), whole=_literal(segments))
    return None


def metadata_path(segments: tuple[PatternSegment, ...]) -> ReservedPath | None:
    """The same of the metadata of resources (RFC 9728), at hosts where there are some."""
    where = (WELL_KNOWN, PROTECTED_RESOURCE)
    if not _takes(segments, where, or_below=True):
        return None
    whole = len(segments) >= len(where) and _literal(segments[: len(where)])
    return ReservedPath(f"{document_path(PROTECTED_RESOURCE)}/…", whole=whole)


def _takes(
    segments: tuple[PatternSegment, ...], path: tuple[str, ...], *, or_below: bool = False
) -> bool:
    """Whether the pattern matches the path, or one below it."""
    for segment, piece in zip(segments, path, strict=False):
        if segment.kind is SegmentKind.REST:
            return True
        if not segment.takes(piece):
            return False
    return len(segments) == len(path) or (or_below and len(segments) > len(path))


def _literal(segments: tuple[PatternSegment, ...]) -> bool:
    return all(segment.kind is SegmentKind.LITERAL for segment in segments)
