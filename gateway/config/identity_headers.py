"""`identity_headers:` read: a preset's name, or a list of fields and presets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import yaml

from gateway.access.attributes import Attribute
from gateway.access.conditions.conditions import Condition, ConditionCompiler, ConditionFailed
from gateway.access.conditions.context import EvaluationContext
from gateway.access.identity_headers import (
    JSON_LIST,
    LISTS,
    PRESETS,
    TABLES,
    USER_FIELDS,
    Encoding,
    IdentityField,
    IdentityHeaders,
    IdentityValue,
    user_field,
)
from gateway.access.roles import RoleBook
from gateway.access.suggestions import suggestion
from gateway.access.templates import TextTemplate, read_template
from gateway.config.headers import check_identity_name
from gateway.config.yaml_reader import Node, Reader
from gateway.model import Call, Principal

IDENTITY_KEYS = ("name", "value", "separator", "encoding")

# Nothing that an entry of a list is made of as a rule, and nothing that an escape is made of.
_SEPARATOR = re.compile(r"[ !#$&'()*+,/:;<=>?@\[\]^`{|}\"\\]{1,4}\Z")
_READABLE = frozenset(("user", "data"))
_PLACE = re.compile(r"\{[a-z_]+(?:\.[^{}:]*)?\}")
"""A place as in other texts of the configuration, and nothing that CEL has."""
_NO_CALL = Call("GET", "", "/", ("",), "", headers=(), client_ip="", scheme="http")
_NO_ROLES = RoleBook()


class IdentityReader:
    """Reads the blocks of one configuration; `data` holds the tables that expressions may read."""

    def __init__(
        self,
        reader: Reader,
        compiler: ConditionCompiler,
        data: Mapping[str, Any],
        attributes: Mapping[str, Attribute],
    ) -> None:
        self._reader = reader
        self._compiler = compiler.with_data(data)
        self._data = data
        self._attributes = attributes

    def read(self, node: Node | None) -> IdentityHeaders | None:
        """None where nothing is said, or what is said is wrong."""
        reader = self._reader
        if node is None:
            return None
        if isinstance(node, yaml.ScalarNode):
            name = reader.choice(node, "`identity_headers`", PRESETS)
            return None if name is None else PRESETS[name]
        fields: list[IdentityField] = []
        seen: dict[str, str] = {}
        for item in reader.items(node, "`identity_headers`"):
            for one, at in self._entry(item):
                if check_identity_name(reader, at, one.name, seen):
                    fields.append(one)
        return IdentityHeaders(tuple(fields))

    def _entry(self, node: Node) -> list[tuple[IdentityField, Node]]:
        reader = self._reader
        if isinstance(node, yaml.ScalarNode):
            preset = reader.choice(node, "an entry of `identity_headers`", PRESETS)
            return [] if preset is None else [(one, node) for one in PRESETS[preset].fields]
        fields = reader.block(node, "a field of `identity_headers`", IDENTITY_KEYS)
        for key in ("name", "value"):
            if fields and key not in fields:
                reader.error(node, f"the field has no `{key}:`")
        name = reader.text(fields.get("name"), "`name`")
        separator = self._separator(fields.get("separator"))
        encoding = reader.choice(fields.get("encoding"), "`encoding`", tuple(Encoding))
        value = self._value(fields.get("value"))
        if name is None or value is None:
            return []
        one = IdentityField(name, value, separator, Encoding(encoding or Encoding.PERCENT))
        return [(one, fields["name"])]

    def _separator(self, node: Node | None) -> str:
        text = self._reader.text(node, "`separator`")
        if text is None or node is None or text == JSON_LIST:
            return text or ","
        if not _SEPARATOR.match(text):
            self._reader.error(
                node, "`separator` is 1 to 4 signs, no letter, digit or any of ._-~%; or `json`"
            )
        return text

    def _value(self, node: Node | None) -> IdentityValue | None:
        text = self._reader.text(node, "`value`")
        if text is None or node is None:
            return None
        return self._template(text, node) if "{user." in text else self._expression(text, node)

    def _template(self, text: str, node: Node) -> IdentityValue | None:
        reader = self._reader
        template = read_template(text, ("user",))
        if not isinstance(template, TextTemplate):
            reader.error(node, template)
            return None
        for name in template.names("params"):
            reader.error(node, f"`{{{name}}}` is no field of the caller such as `{{user.email}}`")
            return None
        for path in template.names("user"):
            name, _, below = path.partition(".")
            if name not in USER_FIELDS or (name in TABLES) != bool(below):
                hint = suggestion(name, USER_FIELDS)
                if name in TABLES:
                    hint = f": name the {name.removesuffix('s')}, `{{user.{name}.department}}`"
                reader.error(node, f"`{{user.{path}}}` cannot be filled in{hint}")
                return None
            if name == "attributes" and below not in self._attributes:
                hint = suggestion(below, self._attributes)
                reader.error(node, f"`attributes:` of routes.yaml has no `{below}`{hint}")
                return None
            if name in LISTS and len(template.pieces) > 1:
                reader.error(node, f"`{{user.{name}}}` is a list: it stands alone")
                return None
        if len(template.pieces) == 1:
            return user_field(template.pieces[0].text)
        return _filling(template)

    def _expression(self, text: str, node: Node) -> IdentityValue | None:
        compiled = self._compiler.compile(text, truth=False)
        if not isinstance(compiled, Condition):
            if (place := _PLACE.search(text)) is not None:
                self._reader.error(
                    node, f"`{place[0]}` is no field of the caller such as `{{user.email}}`"
                )
                return None
            for at, problem in compiled:
                self._reader.error(node, problem, at=at)
            return None
        if compiled.reads.roots - _READABLE:
            self._reader.error(
                node,
                "`value` reads `user` and `data` alone: who calls does not depend on the call",
            )
            return None
        data = self._data

        def value(principal: Principal) -> Any:
            context = EvaluationContext(_NO_CALL, principal, _NO_ROLES, _epoch, data=data)
            given = compiled.value(context)
            if isinstance(given, ConditionFailed):
                return None
            if isinstance(given, datetime):
                return int(given.timestamp())
            return list(given) if isinstance(given, tuple) else given

        return value


def _filling(template: TextTemplate) -> IdentityValue:
    """A text with places; none where one of them has no value, or is a list."""
    parts = [
        (piece.text, user_field(piece.text) if piece.source else None) for piece in template.pieces
    ]

    def value(principal: Principal) -> str | None:
        texts = []
        for text, read in parts:
            one = text if read is None else read(principal)
            if isinstance(one, bool) or not isinstance(one, str | int | float):
                return None
            texts.append(str(one))
        return "".join(texts)

    return value


def _epoch() -> float:
    return 0.0
