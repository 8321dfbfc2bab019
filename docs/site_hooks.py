"""The site of the docs: what its pages link to in the repository is part of it.

A page is read in the repository as well as on the site, so it links to what lies outside `docs/` by
its path.  On the site such a file stands below `repository/`: a page of ours as a page, a folder
as a list of its files, anything else as it is.  mkdocs calls `on_files` and `on_page_markdown`.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
DOCS = "docs"
OUTSIDE = "repository"
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_CODE = re.compile(r"^```.*?^```", re.M | re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what the pages link to, and what those link to."""
    tracked = _tracked()
    waiting = [f"{DOCS}/{file.src_uri}" for file in files.documentation_pages()]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        for target in _targets(path):
            if target in seen or target.startswith(f"{DOCS}/") or not (ROOT / target).exists():
                continue
            seen.add(target)
            files.append(_file(target, tracked, config))
            if target.endswith(".md"):
                waiting.append(target)
            elif (ROOT / target).is_dir():
                inside = [name for name in tracked if name.startswith(f"{target}/")]
                for name in inside:
                    if name not in seen:
                        seen.add(name)
                        files.append(_file(name, tracked, config))
                        if name.endswith(".md"):
                            waiting.append(name)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads the links to where the files stand on the site."""
    path = _path_of(page.file.src_uri)

    def led(link: re.Match[str]) -> str:
        target, _, anchor = link[2].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return link[0]
        resolved = _resolved(path, target)
        if not (ROOT / resolved).exists():
            return link[0]
        there = posixpath.relpath(_site_path(resolved), posixpath.dirname(page.file.src_uri) or ".")
        return f"{link[1]}{there}{'#' + anchor if anchor else ''}{link[3]}"

    text, last = [], 0
    for code in _CODE.finditer(markdown):
        text += [_LINK.sub(led, markdown[last : code.start()]), code[0]]
        last = code.end()
    return "".join([*text, _LINK.sub(led, markdown[last:])])


def _targets(path: str) -> Iterator[str]:
    """What a page links to, by its path in the repository."""
    text = _CODE.sub("", (ROOT / path).read_text("utf-8"))
    for _, link, _ in _LINK.findall(text):
        target = link.partition("#")[0]
        if target and not re.match(r"[a-z]+:", target):
            yield _resolved(path, target)


def _resolved(path: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))


def _site_path(path: str) -> str:
    """Where a file of the repository stands on the site, as mkdocs names sources."""
    if path.startswith(f"{DOCS}/"):
        return path.removeprefix(f"{DOCS}/")
    inside = f"{OUTSIDE}/{path}"
    return f"{inside}/index.md" if (ROOT / path).is_dir() else inside


def _path_of(src_uri: str) -> str:
    """The other way about; a folder's list stands in the folder."""
    if src_uri.startswith(f"{OUTSIDE}/"):
        return src_uri.removeprefix(f"{OUTSIDE}/")
    return f"{DOCS}/{src_uri}"


def _file(path: str, tracked: list[str], config: MkDocsConfig) -> File:
    source = ROOT / path
    if not source.is_dir():
        return File.generated(config, _site_path(path), abs_src_path=os.fspath(source))
    names = [name.removeprefix(f"{path}/") for name in tracked if name.startswith(f"{path}/")]
    lines = "".join(f"- [{name}]({name})\n" for name in names)
    return File.generated(config, _site_path(path), content=f"# {path}\n\n{lines}")


def _tracked() -> list[str]:
    """Each file of the repository that is not left out of it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())
