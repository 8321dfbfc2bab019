"""`policies/**/*.yaml` read: policies, shared roles and data."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import yaml

from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.conditions.worlds_alike import PolicyTables
from gateway.access.definitions import Limit
from gateway.access.policies import SIGNED_IN, Effect, Policy, Rule
from gateway.access.roles import Role, RoleBook, is_action_pattern
from gateway.access.snapshot import TableLocation
from gateway.access.step_up import StepUp
from gateway.access.suggestions import suggestion
from gateway.access.templates import TextTemplate, read_template
from gateway.config.headers import check_written_name
from gateway.config.rule_headers import check_rule_headers
from gateway.config.yaml_reader import Node, Reader, check_version
from gateway.model import ConfigProblem, Reason

POLICY_KEYS = ("version", "policy", "description", "mode", "roles", "rules")
RULE_KEYS = (
    "id", "description", "allow", "deny", "when", "reason", "conceal", "mode",
    "step_up", "limits", "headers",
)  # fmt: skip
ROLE_PERMISSIONS = "role-permissions"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_POLICY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*\Z")
_ROLE = re.compile(r"[A-Za-z0-9._:@-]{1,128}\Z")
_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_USER_FIELDS = ("id", "email", "issuer")


@dataclass(slots=True)
class PolicyFiles:
    policies: dict[str, Policy] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    data_locations: dict[str, TableLocation] = field(default_factory=dict)


def read_policies(
    files: tuple[tuple[str, str], ...],
    root: str,
    limits: Mapping[str, Limit],
    compiler: ConditionCompiler,
    problems: list[ConfigProblem],
) -> PolicyFiles:
    """Every policy below `root`.  `limits` are those of `routes.yaml`, for rules that name one."""
    shared: dict[str, Role] = {}
    policy_files = PolicyFiles()
    rest: list[tuple[str, str, str]] = []
    for name, text in files:
        kind, namespace = _kind(name, root)
        reader = Reader(name, problems)
        if kind == "data":
            _read_data(reader, text, policy_files)
        elif kind == "roles":
            _read_shared_roles(reader, text, shared)
        elif kind == "policy":
            rest.append((name, text, namespace))
    _check_roles(shared, shared, problems)
    data = PolicyTables(policy_files.data)
    compiler = compiler.with_data(data)
    for name, text, namespace in rest:
        reader = Reader(name, problems)
        policy = _PolicyReader(reader, namespace, limits, data, compiler).policy(text, shared)
        if policy is None:
            continue
        if policy.name in policy_files.policies:
            first = policy_files.policies[policy.name].location
            text = f"the policy `{policy.name}` stands in {first} already"
            problems.append(ConfigProblem.at(policy.location, text))
        policy.read_tables()
        policy_files.policies[policy.name] = policy
    return policy_files


def is_reserved_reason(reason: str) -> bool:
    """Whether a rule may not answer with it: it means something else in the table of answers."""
    return reason in set(Reason) and reason != Reason.NO_RULE


def _kind(name: str, root: str) -> tuple[str, str]:
    """What a file below `root` holds, and the namespace that its folders give it."""
    path = PurePosixPath(name)
    parts = path.relative_to(root).parts if path.is_relative_to(root) else path.parts[-1:]
    folders = parts[:-1]
    if folders and folders[0] == "data":
        return "data", ""
    if folders and folders[0] == "tests":
        return "tests", ""
    if not folders and path.name in ("roles.yaml", "roles.yml"):
        return "roles", ""
    return "policy", "/".join(folders)


def _read_data(reader: Reader, text: str, policy_files: PolicyFiles) -> None:
    root = reader.document(text)
    if root is None:
        return
    fields = reader.entries(root, "a data file")
    check_version(reader, root, fields)
    for name, node in fields.items():
        if name == "version":
            continue
        if name in policy_files.data:
            reader.error(reader.name_of(node), f"another data file holds `{name}` already")
        elif not re.match(r"[A-Za-z_][A-Za-z0-9_]*\Z", name):
            reader.error(
                reader.name_of(node), f"`data.{name}` cannot be written: letters, digits and _"
            )
        else:
            policy_files.data[name] = reader.plain(node)
            entries = node.value if isinstance(node, yaml.MappingNode) else ()
            lines = array("I", (key.start_mark.line + 1 for key, _ in entries))
            policy_files.data_locations[name] = TableLocation(
                reader.location(reader.name_of(node)), lines
            )


def _read_shared_roles(reader: Reader, text: str, roles: dict[str, Role]) -> None:
    root = reader.document(text)
    if root is None:
        return
    fields = reader.block(root, "a file of roles", ("version", "roles"))
    check_version(reader, root, fields)
    roles.update(_roles(reader, fields.get("roles")))


def _roles(reader: Reader, node: Node | None) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for name, value in reader.entries(node, "`roles`").items():
        location = reader.location(reader.name_of(value))
        if not _ROLE.match(name):
            reader.error(
                reader.name_of(value), "a role is 1 to 128 letters, digits or any of ._:@-"
            )
        inherits: tuple[str, ...] = ()
        permissions: Node | None = value
        if isinstance(value, yaml.MappingNode):
            block = reader.block(value, f"role `{name}`", ("inherits", "permissions"))
            parents = reader.texts(block.get("inherits"), "`inherits`") or []
            inherits = tuple(text for text, _ in parents)
            permissions = block.get("permissions")
        granted = reader.texts(permissions, f"the permissions of `{name}`") or []
        for text, item in granted:
            _check_action(reader, text, item)
        roles[name] = Role(name, inherits, tuple(text for text, _ in granted), location)
    return roles


def _check_action(reader: Reader, text: str, node: Node) -> None:
    if not is_action_pattern(text):
        reader.error(
            node,
            f"`{text}` is no action: words joined by `:`, a whole word may be `*` "
            "(`orders:read`, `orders:*`)",
        )


def _check_roles(
    own: Mapping[str, Role], known: Mapping[str, Role], problems: list[ConfigProblem]
) -> None:
    for role in own.values():
        for parent in role.inherits:
            if parent not in known:
                text = f"role `{role.name}` inherits the unknown role `{parent}`"
                text += suggestion(parent, known)
                problems.append(ConfigProblem.at(role.location, text))
    ring = RoleBook(known.values()).cycle()
    if ring is not None and any(name in own for name in ring):
        location = next(own[name].location for name in ring if name in own)
        text = "roles inherit each other in a ring: " + " → ".join(ring)
        problems.append(ConfigProblem.at(location, text))


def _merged(shared: Mapping[str, Role], own: Mapping[str, Role]) -> dict[str, Role]:
    """A role that both define has what both give it."""
    merged = dict(shared)
    for name, role in own.items():
        base = shared.get(name)
        if base is not None:
            inherits = tuple(dict.fromkeys(base.inherits + role.inherits))
            permissions = tuple(dict.fromkeys(base.permissions + role.permissions))
            role = Role(name, inherits, permissions, role.location)
        merged[name] = role
    return merged


class _PolicyReader:
    def __init__(
        self,
        reader: Reader,
        namespace: str,
        limits: Mapping[str, Limit],
        data: PolicyTables,
        compiler: ConditionCompiler,
    ) -> None:
        self._reader = reader
        self._namespace = namespace
        self._limits = limits
        self._data = data
        self._compiler = compiler

    def policy(self, text: str, shared: Mapping[str, Role]) -> Policy | None:
        reader = self._reader
        root = reader.document(text)
        if root is None:
            return None
        fields = reader.block(root, "a policy", POLICY_KEYS)
        check_version(reader, root, fields)
        name = self._name(root, fields)
        own = _roles(reader, fields.get("roles"))
        known = _merged(shared, own)
        _check_roles(own, known, reader.problems)
        if "rules" not in fields:
            reader.error(root, "`rules:` is missing: without rules nobody is allowed")
        rules: list[Rule] = []
        before: dict[str, Rule] = {}
        for node in reader.items(fields.get("rules"), "`rules`"):
            rule = self._rule(node, before)
            if rule is not None:
                rules.append(rule)
                before[rule.id] = rule
        check_rule_headers(rules, reader.problems)
        if name is None:
            return None
        return Policy(
            name,
            tuple(rules),
            RoleBook(known.values()),
            shadow=self._shadow(fields.get("mode")),
            location=reader.location(reader.name_of(fields["policy"])),
            data=self._data,
        )

    def _name(self, root: Node, fields: Mapping[str, Node]) -> str | None:
        reader = self._reader
        if "policy" not in fields and root.start_mark is not None:
            reader.error(root, "`policy: NAME` is missing")
            return None
        name = reader.text(fields.get("policy"), "`policy`")
        if name is None:
            return None
        if not _POLICY_NAME.match(name):
            reader.error(fields["policy"], "a policy's name is letters, digits and any of ._-")
            return None
        if self._namespace and not name.startswith(self._namespace + "/"):
            name = f"{self._namespace}/{name}"
        if name == SIGNED_IN:
            reader.error(fields["policy"], f"`{SIGNED_IN}` is built in: choose another name")
            return None
        return name

    def _shadow(self, node: Node | None) -> bool:
        return self._reader.choice(node, "`mode`", ("enforce", "shadow")) == "shadow"

    def _rule(self, node: Node, before: Mapping[str, Rule]) -> Rule | None:
        reader = self._reader
        fields = reader.block(node, "a rule", RULE_KEYS)
        if not fields:
            return None
        rule_id = reader.text(fields.get("id"), "`id`")
        if "id" not in fields:
            reader.error(node, "the rule has no `id`")
        elif rule_id is not None and not _NAME.match(rule_id):
            reader.error(fields["id"], "an `id` is letters, digits and any of ._-")
        elif rule_id is not None and rule_id in before:
            reader.error(
                fields["id"],
                f"rule `{rule_id}` stands on line {before[rule_id].location.line} already",
            )
        if ("allow" in fields) == ("deny" in fields):
            reader.error(node, "a rule has either `allow:` or `deny:`")
        effect = Effect.ALLOW if "allow" in fields else Effect.DENY
        actions, by_role = self._actions(fields, effect)
        return Rule(
            rule_id or "",
            effect,
            actions,
            role_permissions=by_role,
            condition=self._condition(fields.get("when")),
            reason=self._reason(fields.get("reason")),
            conceal=reader.flag(fields.get("conceal"), "`conceal`", False),
            shadow=self._shadow(fields.get("mode")),
            step_up=self._step_up(fields.get("step_up")),
            limits=self._rule_limits(fields.get("limits"), effect),
            headers=self._headers(fields.get("headers"), effect),
            location=reader.location(node),
        )

    def _actions(self, fields: Mapping[str, Node], effect: Effect) -> tuple[tuple[str, ...], bool]:
        reader = self._reader
        node = fields.get(effect.value)
        listed = reader.texts(node, f"`{effect.value}`") or []
        if node is not None and isinstance(node, yaml.SequenceNode) and not node.value:
            reader.error(node, f"`{effect.value}` is empty: the rule would cover nothing")
        names = [text for text, _ in listed]
        if ROLE_PERMISSIONS in names:
            if effect is Effect.DENY:
                reader.error(
                    listed[0][1], f"`{ROLE_PERMISSIONS}` belongs to `allow:`; a deny lists actions"
                )
            elif len(names) > 1:
                reader.error(
                    listed[0][1], f"`{ROLE_PERMISSIONS}` stands alone: write a second rule"
                )
            return (), True
        for text, item in listed:
            _check_action(reader, text, item)
        return tuple(names), False

    def _condition(self, node: Node | None) -> Condition | None:
        reader = self._reader
        plain = isinstance(node, yaml.ScalarNode) and not node.style
        if plain and node is not None and node.value in ("true", "false"):
            compiled = self._compiler.compile(node.value)
            return compiled if isinstance(compiled, Condition) else None
        source = reader.text(node, "`when`")
        if source is None or node is None:
            return None
        compiled = self._compiler.compile(source)
        if isinstance(compiled, Condition):
            return compiled
        for at, text in compiled:
            reader.error(node, text, at=at)
        return None

    def _reason(self, node: Node | None) -> str | None:
        reason = self._reader.text(node, "`reason`")
        if reason is None or node is None:
            return None
        if not _REASON.match(reason):
            self._reader.error(node, "a reason is one lower-case word: `not_your_order`")
            return None
        if is_reserved_reason(reason):
            self._reader.error(node, f"`{reason}` means something else already: choose another")
            return None
        return None if reason == Reason.NO_RULE else reason

    def _step_up(self, node: Node | None) -> StepUp | None:
        if node is None:
            return None
        reader = self._reader
        fields = reader.block(node, "`step_up`", ("max_age", "amr"))
        age_s = reader.duration_s(fields.get("max_age"), "`max_age`", least=1)
        amr = reader.texts(fields.get("amr"), "`amr`") or []
        for text, item in amr:
            if not _NAME.match(text):
                reader.error(item, f"`{text}` is no method of sign-in such as `totp` or `pwd`")
        if not fields:
            reader.error(node, "`step_up` asks for `max_age:`, `amr:` or both")
        return StepUp(int(age_s) if age_s is not None else None, tuple(text for text, _ in amr))

    def _rule_limits(self, node: Node | None, effect: Effect) -> tuple[Limit, ...]:
        limits: list[Limit] = []
        for name, item in self._reader.texts(node, "`limits`") or []:
            limit = self._limits.get(name)
            if limit is None:
                self._reader.error(item, f"unknown limit `{name}`{suggestion(name, self._limits)}")
            else:
                limits.append(limit)
        if node is not None and effect is Effect.DENY:
            self._reader.error(node, "`limits` belong to an `allow` rule")
        return tuple(limits)

    def _headers(self, node: Node | None, effect: Effect) -> tuple[tuple[str, TextTemplate], ...]:
        reader = self._reader
        templates: list[tuple[str, TextTemplate]] = []
        names: dict[str, str] = {}
        for name, value in reader.entries(node, "`headers`").items():
            check_written_name(reader, reader.name_of(value), name, names)
            text = reader.text(value, f"the header `{name}`")
            template = read_template(text, ("resource", "user")) if text is not None else None
            if isinstance(template, TextTemplate):
                templates.append((name, template))
                for user_field in template.names("user"):
                    if user_field not in _USER_FIELDS:
                        hint = suggestion(user_field, _USER_FIELDS)
                        reader.error(value, f"`{{user.{user_field}}}` cannot be filled in{hint}")
            elif template is not None:
                reader.error(value, template)
        if node is not None and effect is Effect.DENY:
            reader.error(node, "`headers` belong to an `allow` rule")
        return tuple(templates)
