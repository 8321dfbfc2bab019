"""YAML 1.2 texts with the location of every value: every mistake is reported, where it stands.

The C parser composes nodes, which carry line and column.  What they mean is decided here by
the core schema of YAML 1.2: `yes`, `on` and `off` are texts, and nothing is ever constructed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import yaml

from gateway.access.suggestions import suggestion
from gateway.model import ConfigProblem, SourceLocation

_MAX_DEPTH = 32
_MAX_DATA_NODES = 1_000_000
_STR, _SEQ, _MAP = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))
_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+\Z")
_BEGINS_NO_TEXT = frozenset("~nNtTfF+-.0123456789")
"""With what a plain scalar begins that may be more than text."""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)\Z")
_SIZE = re.compile(r"([0-9]{1,9})(B|KiB|MiB|GiB|TiB)\Z")
_PERCENT = re.compile(r"([0-9]{1,3})%\Z")
_RATE = re.compile(r"([0-9]{1,18})/(.+)\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}

# Counters keep their precision and timers their range; nothing real is larger.
_MOST = 1_000_000_000
_LONGEST_S = 366 * 86400

Node = yaml.Node


class _Loader(yaml.CSafeLoader):
    """Composes only.  Every untagged node gets the plain tag of its kind, so whatever has
    another tag was given it in the text."""

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _STR
        return _SEQ if kind is yaml.SequenceNode else _MAP


class Reader:
    """Reads the values of one file.  A mistake goes to `problems`, and the value is None."""

    def __init__(self, file: str, problems: list[ConfigProblem]) -> None:
        self.file = file
        self.problems = problems
        # The node of the name under which a value stands, by the value's identity.
        self._names: dict[int, Node] = {}
        self._left = _MAX_DATA_NODES
        """Values that may yet be read as data, of the whole file."""

    def document(self, text: str) -> Node | None:
        try:
            node = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            problem = error.problem or error.context or "cannot be read"
            self.problems.append(ConfigProblem(self.file, line, column, f"not YAML: {problem}"))
            return None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self.problems.append(ConfigProblem(self.file, line, 1, "not YAML: a control character"))
            return None
        if node is None:
            self.problems.append(
                ConfigProblem(self.file, 1, 1, "the file is empty: `version: 1` first")
            )
        return node

    def error(self, node: Node, text: str, *, at: int = 0) -> None:
        """Report a mistake; `at` counts characters into a text on one line."""
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        if at and isinstance(node, yaml.ScalarNode):
            if node.style in ("|", ">"):
                line, column = line + 1 + node.value.count("\n", 0, at), 1
            elif node.start_mark.line == node.end_mark.line:
                column += at + (1 if node.style in ("'", '"') else 0)
        self.problems.append(ConfigProblem(self.file, line, column, text))

    def location(self, node: Node) -> SourceLocation:
        return SourceLocation(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    # Structures

    def entries(self, node: Node | None, what: str) -> dict[str, Node]:
        """The entries of a mapping with free names, each name once."""
        if node is None:
            return {}
        if not self._untagged(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.error(node, f"{what} is a block of `name: value` lines")
            return {}
        entries: dict[str, Node] = {}
        names = self._names
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or not (key.tag == _STR or self._untagged(key)):
                self.error(key, "a name is plain text")
                continue
            name = key.value
            if name in entries:
                first = self.name_of(entries[name]).start_mark.line + 1
                self.error(key, f"`{name}` stands here twice; the first is on line {first}")
            else:
                entries[name] = value
                names[id(value)] = key
        return entries

    def name_of(self, value: Node) -> Node:
        """Where the name stands under which `value` was found."""
        return self._names.get(id(value), value)

    def block(self, node: Node | None, what: str, known: Collection[str]) -> dict[str, Node]:
        """The entries of a mapping whose names are all `known`."""
        entries = self.entries(node, what)
        for name in [name for name in entries if name not in known]:
            self.error(
                self.name_of(entries.pop(name)),
                f"unknown key `{name}` in {what}{suggestion(name, known)}",
            )
        return entries

    def items(self, node: Node | None, what: str) -> list[Any]:
        if node is None:
            return []
        if not self._untagged(node):
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.error(node, f"{what} is a list")
            return []
        return list(node.value)

    def consumed(self, node: Node | None, what: str) -> Iterator[Node]:
        """The items, each let go of once the next is asked for.

        To free 10,000 routes in one go keeps every other thread waiting for 50 ms.
        """
        items = self.items(node, what)
        if node is not None:
            node.value = None
        kept = self._names
        for at, item in enumerate(items):
            items[at] = None
            self._names = {}
            yield item
        self._names = kept

    # Values

    def text(self, node: Node | None, what: str) -> str | None:
        if node is None:
            return None
        value = self._scalar(node, what)
        if value is None:
            return None
        if not isinstance(value, str):
            shown = node.value or "nothing"
            self.error(node, f'{what} is text, and {shown} is not: write "{node.value}"')
            return None
        if not value:
            self.error(node, f"{what} is empty")
            return None
        return value

    def texts(self, node: Node | None, what: str) -> list[tuple[str, Node]] | None:
        """A list of texts, or one text alone."""
        if node is None:
            return None
        if isinstance(node, yaml.ScalarNode):
            one = self.text(node, what)
            return None if one is None else [(one, node)]
        texts = [(self.text(item, f"an entry of {what}"), item) for item in self.items(node, what)]
        return [(text, item) for text, item in texts if text is not None]

    def flag(self, node: Node | None, what: str, default: bool) -> bool:
        if node is None:
            return default
        value = self._scalar(node, what)
        if isinstance(value, bool):
            return value
        if value is not None:
            hint = {"yes": "true", "on": "true", "no": "false", "off": "false"}
            better = hint.get(str(value).lower())
            self.error(node, f"{what} is true or false" + (f": write {better}" if better else ""))
        return default

    def integer(self, node: Node | None, what: str, *, least: int = 0) -> int | None:
        if node is None:
            return None
        value = self._scalar(node, what)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST:
            return value
        if value is not None:
            self.error(node, f"{what} is a whole number, {least} or more and {_MOST:,} at most")
        return None

    def choice(self, node: Node | None, what: str, known: Collection[str]) -> str | None:
        text = self.text(node, what)
        if text is None or text in known:
            return text
        assert node is not None
        self.error(node, f"{what} cannot be `{text}`{suggestion(text, known)}")
        return None

    def duration_s(self, node: Node | None, what: str, *, least: float = 0.001) -> float | None:
        """Seconds of `1s`, `500ms`, `5m`, `2h`, `7d`."""
        if node is None:
            return None
        value = self._scalar(node, what)
        seconds = _seconds(str(value)) if value is not None else None
        if seconds is not None and seconds > _LONGEST_S:
            assert node is not None
            self.error(node, f"{what} is {_LONGEST_S // 86400}d at most")
            return None
        if seconds is not None and seconds >= least:
            return seconds
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.error(node, f"{what} needs a unit: `{node.value}s`")
        elif value is not None:
            self.error(node, f"{what} is a duration such as `30s`, `500ms`, `5m`, `2h` or `7d`")
        return None

    def size_bytes(self, node: Node | None, what: str, *, or_off: bool = False) -> int | None:
        """Bytes of `10MiB`.  `or_off`: whoever asks takes `off` too, and has looked for it."""
        if node is None:
            return None
        value = self._scalar(node, what)
        match = _SIZE.match(str(value)) if value is not None else None
        if match:
            return int(match.group(1)) * _BYTES[match.group(2)]
        if value is not None:
            also = ", or `off`" if or_off else ""
            self.error(node, f"{what} is a size such as `10MiB`, `64KiB`, `1TiB` or `0B`{also}")
        return None

    def percent(self, node: Node | None, what: str) -> float | None:
        """`20%` as 0.2; 1 to 100 of them."""
        if node is None:
            return None
        value = self._scalar(node, what)
        match = _PERCENT.match(str(value)) if value is not None else None
        if match and 1 <= int(match.group(1)) <= 100:
            return int(match.group(1)) / 100
        if value is not None:
            self.error(node, f"{what} is `1%` to `100%`")
        return None

    def rate(self, node: Node | None, what: str) -> tuple[int, float] | None:
        """`600/1m`: how many, and in how many seconds."""
        text = self.text(node, what)
        if text is None:
            return None
        match = _RATE.match(text)
        seconds = _seconds(match.group(2)) if match else None
        assert node is not None
        if match and seconds and int(match.group(1)) > 0:
            if int(match.group(1)) > _MOST or seconds > _LONGEST_S:
                self.error(node, f"{what} is at most {_MOST:,} in {_LONGEST_S // 86400}d")
                return None
            return int(match.group(1)), seconds
        self.error(node, f"{what} is a count in a time, such as `600/1m` or `5/1s`")
        return None

    def plain(self, node: Node) -> Any:
        """The value as data: text, number, true, false, null, list, map."""
        return self._plain(node, 0)

    def _plain(self, node: Node, depth: int) -> Any:
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            if self._left != -2:
                self.error(node, "nested too deeply, or aliases that unfold without end")
            self._left = -1
            return None
        if isinstance(node, yaml.MappingNode):
            entries = self.entries(node, "a table")
            return {name: self._plain(value, depth + 1) for name, value in entries.items()}
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, depth + 1) for item in self.items(node, "a list")]
        if not isinstance(node, yaml.ScalarNode) or not self._untagged(node):
            return None
        return _core_value(node)

    def _scalar(self, node: Node, what: str) -> str | int | float | bool | None:
        """The value of a scalar; None, and a problem, where it is none or is null."""
        if not isinstance(node, yaml.ScalarNode):
            self.error(node, f"{what} is one value, not a list or a block")
            return None
        if node.tag != _STR and not self._untagged(node):
            return None
        value = _core_value(node)
        if value is None:
            self.error(node, f"{what} has no value")
        return value

    def _untagged(self, node: Node) -> bool:
        if node.tag in (_STR, _SEQ, _MAP):
            return True
        self.error(node, f"tags such as `{_short(node.tag)}` are not taken here: leave it out")
        return False


def check_version(reader: Reader, root: Node, fields: Mapping[str, Node]) -> None:
    node = fields.get("version")
    if node is None:
        reader.error(root, "`version: 1` is missing")
    elif getattr(node, "value", None) != "1":
        reader.error(node, "this gateway reads `version: 1`")


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!", 1)


def _seconds(text: str) -> float | None:
    match = _DURATION.match(text)
    return float(match.group(1)) * _SECONDS[match.group(2)] if match else None


def _core_value(node: yaml.ScalarNode) -> str | int | float | bool | None:
    """By the core schema of YAML 1.2 (section 10.3): only plain scalars are more than text."""
    text: str = node.value
    if node.style or (text and text[0] not in _BEGINS_NO_TEXT):
        return text
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _INT.match(text) and len(text) < 400:
        return int(text)
    if _OCTAL.match(text):
        return int(text, 8)
    if _HEXADECIMAL.match(text):
        return int(text, 16)
    if _FLOAT.match(text):
        return float(text)
    return text
