"""What a route matches, what it is about, and the path that it sends on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from gateway.access.conditions.vocabulary import header_problem
from gateway.access.field_names import TOKEN
from gateway.access.policies import ResourceField
from gateway.access.routing.name_letters import letters_in_steps
from gateway.access.routing.own_paths import OwnPaths
from gateway.access.routing.paths import canonical, encoded
from gateway.access.routing.patterns import (
    ReservedPath,
    metadata_path,
    read_pattern,
    read_prefix,
    reserved_path,
)
from gateway.access.routing.route_table import RouteTable
from gateway.access.routing.routes import BELOW, PatternSegment, Rewrite, SegmentKind
from gateway.access.suggestions import suggestion
from gateway.access.templates import TextTemplate, read_template
from gateway.config.yaml_reader import Node, Reader
from gateway.model import Reason

RESOURCE_SOURCES = ("query", "headers", "body")

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class RoutePath:
    """What `match` says of paths."""

    shown: str = ""
    segments: tuple[PatternSegment, ...] = ()
    is_prefix: bool = False
    redirect_slash: bool = False
    takes_files: bool = False


def read_path(
    reader: Reader, fields: Mapping[str, Node], match: Mapping[str, Node], slash: bool
) -> RoutePath:
    """`match.path` or `match.prefix`, and how its paths are taken; nothing, and a problem, where
    it could match no call.

    `slash`: the route takes a path with an encoded slash.
    """
    key = "prefix" if "prefix" in match else "path"
    redirects = reader.flag(fields.get("redirect_slash"), "`redirect_slash`", False)
    if "redirect_slash" in fields and key == "path":
        reader.error(
            reader.name_of(fields["redirect_slash"]),
            "`redirect_slash` needs a `prefix` in `match`: a `path` takes no other than itself",
        )
    where = match.get(key)
    if where is None:
        if "match" in fields:
            reader.error(fields["match"], '`match` has no `path: "/…"` and no `prefix: /…`')
        return RoutePath()
    if key == "prefix" and "path" in match:
        reader.error(reader.name_of(where), "`match` has `path` or `prefix`")
    text = reader.text(where, f"`{key}`")
    if text is None:
        return RoutePath()
    segments = read_pattern(text) if key == "path" else read_prefix(text)
    if isinstance(segments, str):
        reader.error(where, segments)
        return RoutePath()
    if not slash:
        _no_encoded_slash(reader, where, text, segments, "no call reaches this route")
    files = reader.choice(fields.get("paths"), "`paths`", ("strict", "files")) == "files"
    if key == "path":
        return RoutePath(text, segments, takes_files=files)
    if redirects and not segments:
        reader.error(
            reader.name_of(fields["redirect_slash"]), "`/` is its own slash: there is no other name"
        )
    return RoutePath(f"{text.rstrip('/')}/{BELOW}", segments, True, redirects, files)


def check_reserved(
    reader: Reader,
    match: Mapping[str, Node],
    path: RoutePath,
    hosts: tuple[str, ...],
    own_paths: OwnPaths,
) -> bool:
    """A path that the gateway answers itself is no route's: a problem, and false, where that is
    not said."""
    excepted = _is_excepted(reader, match)
    every = ((one, host) for one in _patterns(path) for host in hosts or (None,))
    found = (reserved_path(one, host, own_paths) for one, host in every)
    taken = next(filter(None, found), None)
    if taken is None or (excepted and not taken.whole):
        return True
    _refuse_reserved(reader, match, path, taken)
    return False


class MetadataChecks:
    """The same of the metadata of resources, once it is known at which hosts routes are some."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._noted: list[tuple[Mapping[str, Node], RoutePath, tuple[str, ...], ReservedPath]] = []

    def note(self, match: Mapping[str, Node], path: RoutePath, hosts: tuple[str, ...]) -> None:
        taken = next(filter(None, map(metadata_path, _patterns(path))), None)
        if taken is not None:
            self._noted.append((match, path, hosts, taken))

    def check(self, table: RouteTable) -> None:
        for match, path, hosts, taken in self._noted:
            if not any(table.has_resources(host) for host in hosts or (None,)):
                continue
            if taken.whole or not _is_excepted(self._reader, match):
                _refuse_reserved(self._reader, match, path, taken)


def _patterns(path: RoutePath) -> list[tuple[PatternSegment, ...]]:
    patterns = [path.segments] if path.segments else []
    if path.is_prefix:
        patterns.append((*path.segments, PatternSegment(SegmentKind.REST, BELOW)))
    return patterns


def _is_excepted(reader: Reader, match: Mapping[str, Node]) -> bool:
    return reader.flag(match.get("except_reserved"), "`except_reserved`", False)


def _refuse_reserved(
    reader: Reader, match: Mapping[str, Node], path: RoutePath, taken: ReservedPath
) -> None:
    hint = "choose another path"
    if not taken.whole:
        hint = (
            "begin it with another literal segment, or write `except_reserved: true` in `match` "
            "for a route that takes everything but the gateway's own paths"
        )
    where = match["prefix" if path.is_prefix else "path"]
    text = reader.text(where, "`path`")
    reader.error(
        where, f"`{text}` would match `{taken.name}`, which the gateway answers itself: {hint}"
    )


def _no_encoded_slash(
    reader: Reader, node: Node, text: str, segments: tuple[PatternSegment, ...], effect: str
) -> None:
    """A literal `%2F` where such paths are refused: the route would be silently dead."""
    if any(s.kind is SegmentKind.LITERAL and "/" in s.text for s in segments):
        hint = "write `allow_encoded_slash: true` beside `match`, or `/` where segments part"
        at = text.lower().find("%2f")
        reader.error(node, f"`%2F` is refused as ambiguous, so {effect}: {hint}", at=at)


def read_methods(reader: Reader, node: Node | None) -> tuple[str, ...]:
    """The methods in upper case; empty is any."""
    methods: list[str] = []
    for text, item in reader.texts(node, "`methods`") or []:
        if text == "*":
            reader.error(item, "leave `methods` out to take any method")
        elif not TOKEN.match(text):
            reader.error(item, f"`{text}` is no method")
        elif text in ("CONNECT", "TRACE"):
            reader.error(item, f"the gateway refuses {text} on every route")
        elif text != text.upper():
            reader.error(item, f"methods are upper case: `{text.upper()}`")
        else:
            methods.append(text)
    if isinstance(node, yaml.SequenceNode) and not node.value:
        reader.error(node, "`methods` is empty: leave it out to take any method")
    return tuple(dict.fromkeys(methods))


def read_resource(
    reader: Reader, node: Node | None, segments: tuple[PatternSegment, ...]
) -> tuple[ResourceField, ...]:
    """The fields of the resource, each placeholder of which the path or the call can fill."""
    params = [s.text for s in segments if s.kind is not SegmentKind.LITERAL]
    resource: list[ResourceField] = []
    written: dict[str, str] = {}
    for name, value in reader.entries(node, "`resource`").items():
        if not _FIELD.match(name):
            reader.error(
                reader.name_of(value), f"`resource.{name}` cannot be written: letters and _"
            )
        text = reader.text(value, f"`{name}`")
        template = read_template(text, RESOURCE_SOURCES) if text is not None else None
        if isinstance(template, str):
            reader.error(value, template)
        if not isinstance(template, TextTemplate):
            continue
        for wanted in template.names("params"):
            if wanted not in params:
                reader.error(value, f"the path has no `{{{wanted}}}`{suggestion(wanted, params)}")
        for header in template.names("headers"):
            problem = header_problem(header)
            if problem is not None:
                reader.error(value, problem)
        for field_path in sorted(template.names("body")):
            _check_spelling(reader, value, field_path, written)
        resource.append(ResourceField(name, template))
    return tuple(resource)


def _check_spelling(reader: Reader, node: Node, path: str, written: dict[str, str]) -> None:
    """That each step of `a.b` is written as before: a body in which it stands as either would be
    refused, as some backends take one for the other."""
    steps = path.split(".")
    for count in range(1, len(steps) + 1):
        step = ".".join(steps[:count])
        before = written.setdefault(letters_in_steps(step), step)
        if before != step:
            reader.error(
                node,
                f"`{{body.{step}}}` and `{{body.{before}}}` are one field to some backends, so"
                " that every body with either would be refused: write it each time as the"
                " backend reads it",
            )
            return


def read_rewrite(reader: Reader, node: Node | None, path: RoutePath, slash: bool) -> Rewrite | None:
    """What becomes of the path; None where it stays."""
    if node is None:
        return None
    fields = reader.block(node, "`rewrite`", ("strip_prefix", "add_prefix", "path"))
    if "path" in fields:
        if len(fields) > 1:
            reader.error(node, "`rewrite` has either `path` or prefixes")
        return _rewrite_path(reader, fields["path"], path.segments, slash)
    strip = _prefix(reader, fields, "strip_prefix")
    add = _prefix(reader, fields, "add_prefix")
    if not fields:
        reader.error(node, "`rewrite` has `strip_prefix:`, `add_prefix:` or `path:`")
    first = path.segments[: len(strip)]
    begins = [s.text if s.kind is SegmentKind.LITERAL else None for s in first]
    if path.shown and list(strip) != begins:
        reader.error(
            fields["strip_prefix"],
            "the route's path does not begin with this prefix: nothing could be stripped",
        )
    text = "".join("/" + encoded(segment) for segment in add)
    return Rewrite(len(strip), text)


def _prefix(reader: Reader, fields: Mapping[str, Node], key: str) -> tuple[str, ...]:
    text = reader.text(fields.get(key), f"`{key}`")
    if text is None:
        return ()
    read = canonical(text)
    if isinstance(read, Reason) or read.segments[-1] == "" or read.encoded_slash:
        reader.error(fields[key], f"`{key}` is a path such as `/v1`: a `/` first, none at the end")
        return ()
    return read.segments


def _rewrite_path(
    reader: Reader, node: Node, segments: tuple[PatternSegment, ...], slash: bool
) -> Rewrite | None:
    text = reader.text(node, "`path`")
    if text is None:
        return None
    pattern = read_pattern(text)
    if isinstance(pattern, str):
        reader.error(node, pattern)
        return None
    if not slash:
        _no_encoded_slash(reader, node, text, pattern, "no call gets through")
    kinds = {s.text: s.kind for s in segments if s.kind is not SegmentKind.LITERAL}
    template: list[PatternSegment] = []
    for segment in pattern:
        if segment.kind is SegmentKind.LITERAL:
            template.append(segment)
        elif segment.text in kinds:
            template.append(PatternSegment(kinds[segment.text], segment.text))
        else:
            hint = suggestion(segment.text, kinds)
            reader.error(node, f"the path has no `{{{segment.text}}}`{hint}")
    if slash and any(kind is SegmentKind.REST for kind in kinds.values()):
        reader.error(
            node, "with `allow_encoded_slash` the rest of a path cannot be rebuilt: "
            "use `strip_prefix` and `add_prefix`"
        )  # fmt: skip
    return Rewrite(template=tuple(template))
