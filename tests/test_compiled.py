"""Compiled modules of a checkout: of exactly what is there, or not looked at."""

from __future__ import annotations

import os
import sys
import tomllib
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from gateway import compiled
from gateway.compiled import FOLDER, GROUP, LIST, SUFFIX, SWITCH, CompiledModules, prefer, stamp

ROOT = Path(__file__).parents[1]
MODULE = "gateway.rooms.door"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout, with a compiled module of it."""
    files = {
        "pyproject.toml": "",
        "uv.lock": "",
        "deploy/compiled/compile.py": "LEVEL = 2\n",
        "gateway/__init__.py": "",
        "gateway/rooms/__init__.py": "",
        "gateway/rooms/door.py": "OPEN = 0\n",
        "gateway/rooms/other.py": "LOCKED = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    compile_as(tmp_path, stamp(str(tmp_path)))
    return tmp_path


@pytest.fixture(autouse=True)
def _finders(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test adds to where modules are looked for goes with it."""
    monkeypatch.setitem(sys.modules, GROUP, ModuleType(GROUP))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))


def compile_as(tree: Path, name: str) -> Path:
    folder = tree / FOLDER / name
    (folder / "gateway" / "rooms").mkdir(parents=True)
    (folder / "gateway" / "rooms" / f"door{SUFFIX}").touch()
    (folder / LIST).write_text(f"{GROUP}\n{MODULE}\n")
    return folder


def found(tree: Path, module: str = MODULE) -> ModuleSpec | None:
    return CompiledModules(str(tree)).find_spec(module)


def test_a_module_that_was_compiled_of_what_is_there_is_taken(tree: Path) -> None:
    spec = found(tree)
    assert spec is not None
    assert spec.origin == str(tree / FOLDER / stamp(str(tree)) / "gateway/rooms" / f"door{SUFFIX}")
    assert found(tree, "gateway.rooms.other") is None


@pytest.mark.parametrize(
    "name",
    [
        "gateway/rooms/door.py",
        "gateway/rooms/other.py",  # its constants may be in the code of others
        "gateway/__init__.py",
        "gateway/rooms/new.py",
        "deploy/compiled/compile.py",
        "pyproject.toml",
        "uv.lock",
    ],
)
def test_after_an_edit_nothing_compiled_is_taken(tree: Path, name: str) -> None:
    path = tree / name
    before = path.stat() if path.exists() else None
    path.write_bytes((path.read_bytes() if before else b"").replace(b"0", b"1") + b"#")
    if before is not None:
        # As tar and rsync do: no time tells of it.
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(tree) is None


def test_an_edit_that_leaves_the_size_and_the_time_is_seen(tree: Path) -> None:
    path = tree / "gateway/rooms/door.py"
    before = path.stat()
    path.write_text(path.read_text().replace("0", "1"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert found(tree) is None
    path.write_text(path.read_text().replace("1", "0"))
    assert found(tree) is not None


def test_after_a_source_is_gone_or_moved_nothing_compiled_is_taken(tree: Path) -> None:
    other = tree / "gateway/rooms/other.py"
    other.rename(other.with_name("another.py"))
    assert found(tree) is None
    other.with_name("another.py").unlink()
    assert found(tree) is None


def test_another_python_takes_the_sources(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version", sys.version + "+")
    assert found(tree) is None


def test_what_is_being_made_is_not_looked_at(tree: Path) -> None:
    whole = tree / FOLDER / stamp(str(tree))
    whole.rename(whole.with_name(f".making-{whole.name}"))
    assert found(tree) is None


def test_of_several_the_one_of_these_sources_is_taken(tree: Path) -> None:
    compile_as(tree, "0" * 64)
    spec = found(tree)
    assert spec is not None
    assert stamp(str(tree)) in str(spec.origin)


def test_what_this_machine_cannot_load_is_left(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, GROUP)
    finders = [one for one in sys.meta_path if not isinstance(one, CompiledModules)]
    monkeypatch.setattr(sys, "meta_path", finders)  # on the compiled build that has the true one
    assert found(tree) is None


def test_one_that_is_missing_of_a_whole_is_no_reason_for_its_source(tree: Path) -> None:
    """Code of the others would take an object of the source for one of its own."""
    modules = CompiledModules(str(tree))
    (tree / FOLDER / stamp(str(tree)) / "gateway/rooms" / f"door{SUFFIX}").unlink()
    spec = modules.find_spec(MODULE)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError):
        spec.loader.create_module(spec)


def test_never_looks_for_none(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "never")
    before = list(sys.meta_path)
    prefer(str(tree))
    assert sys.meta_path == before


def test_always_does_not_start_without(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SWITCH, "always")
    prefer(str(tree))
    (tree / "gateway/rooms/door.py").write_text("OPEN = 1\n")
    with pytest.raises(SystemExit, match="2"):
        prefer(str(tree))
    assert "make setup" in capsys.readouterr().err


def test_another_word_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SWITCH, "yes")
    with pytest.raises(SystemExit, match="2"):
        prefer(str(tree))
    assert capsys.readouterr().err == f"error: {SWITCH}=yes: it is one of auto, always, never\n"


def test_beside_what_is_no_checkout_nothing_is_looked_for(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the folder of installed packages."""
    monkeypatch.setenv(SWITCH, "always")
    (tree / "pyproject.toml").unlink()
    before = list(sys.meta_path)
    prefer(str(tree))
    assert sys.meta_path == before


# What the tree says


def settings() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    hook: dict[str, list[str]] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"][
        "custom"
    ]
    hook["group"] = project["dependency-groups"]["compile"]
    return hook


def test_the_list_names_modules_that_are_there_and_the_one_that_tells_the_build() -> None:
    modules = settings()["modules"]
    assert [name for name in modules if not (ROOT / name).exists()] == []
    assert modules == sorted(set(modules))
    assert "gateway/bounded_memo.py" in modules
    assert compiled.build() == ("compiled" if os.environ[SWITCH] == "always" else "pure")


def test_what_compiles_a_wheel_compiles_a_checkout_and_the_image() -> None:
    hook = settings()
    assert hook["dependencies"] == hook["group"]
    locked = {
        one["name"]: one["version"]
        for one in tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))["package"]
    }
    requirements = (ROOT / "deploy/image/build-requirements.txt").read_text("utf-8")
    for named in hook["dependencies"]:
        name, _, version = named.replace("[mypyc]", "").partition("==")
        assert locked[name] == version
        assert f"\n{name}=={version} \\\n" in requirements


def test_no_compiled_module_lies_beside_its_source() -> None:
    """Python would take it before the source, whatever became of that."""
    assert list((ROOT / "gateway").rglob("*.so")) == []
