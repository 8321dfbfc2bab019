"""The operator's folder `pages/`: a logo, colours, texts and templates in the place of the shipped
ones, checked whole when it is read (docs/pages.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.access.suggestions import suggestion
from gateway.config.yaml_reader import Reader
from gateway.edge.pages.shipped_texts import shipped_texts
from gateway.edge.pages.texts import ENGLISH, PLACEHOLDER
from gateway.edge.pages.theme import Theme, read_theme
from gateway.model import ConfigProblem

PAGES = Path("pages")
"""Where it is looked for, beside `routes.yaml`."""
SHIPPED_TEMPLATES = Path(__file__).parent / "templates"
GIVEN = frozenset(
    ("assets", "endpoint", "lang", "logo", "nonce", "path", "problem", "scripts", "site", "t")
)
"""What every template is given."""
_LOGOS = ("logo.svg", "logo.png")
_KNOWN = (*_LOGOS, "theme.yaml", "texts", "templates")
_LOGO_BYTES = 100_000
_PNG = b"\x89PNG\r\n\x1a\n"
_OF_A_RULE = re.compile(r"denied\.[a-z][a-z0-9_]*")
"""What the reason of a rule means to people: no text that ships knows it."""
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")


class InvalidPages(ValueError):
    """The folder cannot be used; the text has each problem with its place."""


@dataclass(frozen=True, slots=True)
class PageOverrides:
    theme: Theme = field(default_factory=Theme)
    logo: tuple[str, bytes] | None = None
    """Its name, and what is in it."""
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By language."""
    templates: Mapping[str, str] = field(default_factory=dict)


def load_overrides(folder: Path) -> PageOverrides:
    """Raises InvalidPages with every problem."""
    found = read_overrides(folder)
    if isinstance(found, list):
        raise InvalidPages("\n".join(map(str, found)))
    return found


def read_overrides(folder: Path) -> PageOverrides | list[ConfigProblem]:
    """What the folder has, none where there is no such folder; or every problem with it."""
    if not folder.is_dir():
        return PageOverrides()
    problems: list[ConfigProblem] = []
    for path in sorted(folder.iterdir()):
        if path.name not in _KNOWN and not path.name.startswith("."):
            told = f"nothing reads this here{suggestion(path.name, _KNOWN)}"
            problems.append(ConfigProblem(str(path), 1, 1, told))
    theme = Theme()
    if (path := folder / "theme.yaml").exists():
        text = _text_of(path, problems)
        theme = read_theme(str(path), text, problems) if text is not None else theme
    found = PageOverrides(
        theme, _logo(folder, problems), _texts(folder, problems), _templates(folder, problems)
    )
    return problems or found


def _text_of(path: Path, problems: list[ConfigProblem]) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        problems.append(ConfigProblem(str(path), 1, 1, "cannot be read as UTF-8 text"))
        return None


def _logo(folder: Path, problems: list[ConfigProblem]) -> tuple[str, bytes] | None:
    paths = [folder / name for name in _LOGOS if (folder / name).is_file()]
    if not paths:
        return None
    path = paths[0]
    if len(paths) > 1:
        problems.append(ConfigProblem(str(path), 1, 1, "there is a logo.png too: keep one"))
    content = path.read_bytes()
    if len(content) > _LOGO_BYTES:
        told = f"holds {len(content):,} bytes; a logo has {_LOGO_BYTES:,} at most"
        problems.append(ConfigProblem(str(path), 1, 1, told))
    if path.suffix == ".png" and not content.startswith(_PNG):
        problems.append(ConfigProblem(str(path), 1, 1, "is no PNG image"))
    if path.suffix == ".svg" and b"<svg" not in content:
        problems.append(ConfigProblem(str(path), 1, 1, "is no SVG image"))
    return path.name, content


def _texts(folder: Path, problems: list[ConfigProblem]) -> dict[str, dict[str, str]]:
    english = shipped_texts()[ENGLISH]
    found: dict[str, dict[str, str]] = {}
    for path in sorted((folder / "texts").glob("*.yaml")):
        if not _LANGUAGE.fullmatch(path.stem):
            told = "the name of the file is no language: en.yaml, pt-BR.yaml"
            problems.append(ConfigProblem(str(path), 1, 1, told))
        text = _text_of(path, problems)
        if text is not None:
            found[path.stem] = _sentences(Reader(str(path), problems), text, english)
    return found


def _sentences(reader: Reader, text: str, english: Mapping[str, str]) -> dict[str, str]:
    sentences: dict[str, str] = {}
    for key, node in reader.entries(reader.document(text), "texts").items():
        if key not in english and not _OF_A_RULE.fullmatch(key):
            told = f"unknown key `{key}` in texts{suggestion(key, english.keys())}"
            reader.error(reader.name_of(node), told)
            continue
        sentence = reader.text(node, f"`{key}`")
        if sentence is None:
            continue
        known = set(PLACEHOLDER.findall(english.get(key, "")))
        for name in set(PLACEHOLDER.findall(sentence)) - known:
            told = ", ".join(f"{{{one}}}" for one in sorted(known)) or "none"
            reader.error(node, f"there is no value {{{name}}} here; there is {told}")
        sentences[key] = sentence
    return sentences


def _templates(folder: Path, problems: list[ConfigProblem]) -> dict[str, str]:
    paths = sorted((folder / "templates").glob("*.html"))
    if not paths:
        return {}
    # Few have templates of their own, and `gateway validate` needs it for nothing else.
    from jinja2 import DictLoader, Environment, TemplateSyntaxError, meta, nodes

    shipped = {path.name: path.read_text("utf-8") for path in SHIPPED_TEMPLATES.glob("*.html")}
    environment = Environment(loader=DictLoader(shipped), autoescape=True)
    found: dict[str, str] = {}
    for path in paths:
        text = _text_of(path, problems)
        if text is None:
            continue
        found[path.name] = text
        try:
            parsed = environment.parse(text)
        except TemplateSyntaxError as error:
            problems.append(ConfigProblem(str(path), error.lineno, 1, str(error.message)))
            continue
        if path.name not in shipped:
            continue  # a part that others of this folder include
        known = meta.find_undeclared_variables(environment.parse(shipped[path.name])) | GIVEN
        for name in sorted(meta.find_undeclared_variables(parsed) - known):
            line = next(one.lineno for one in parsed.find_all(nodes.Name) if one.name == name)
            told = f"`{name}` is not given to this page{suggestion(name, known)}"
            problems.append(ConfigProblem(str(path), line, 1, told))
    return found
