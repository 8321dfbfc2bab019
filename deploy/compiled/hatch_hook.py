"""A hook of hatchling's: compiles what a wheel holds.  Off, unless HATCH_BUILD_HOOK_ENABLE_CUSTOM
says otherwise: a build without a C compiler makes the pure wheel."""

import importlib.util
import shutil
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompilingHook(BuildHookInterface[Any]):
    """Nothing of it comes to lie in the tree: hatch-mypyc would put it there."""

    PLUGIN_NAME = "custom"
    _made: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._made = tempfile.mkdtemp(prefix="authgate-wheel-")
        source, into = Path(self.root), Path(self._made)
        for path in _compiler(source).compile_modules(source, into):
            build_data["force_include"][str(into / path)] = str(path)
        build_data["infer_tag"] = True
        build_data["pure_python"] = False

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        del version, build_data, artifact_path
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)


def _compiler(source: Path) -> ModuleType:
    """The file beside this one: a hook is no member of a package."""
    path = source / "deploy" / "compiled" / "compile.py"
    spec = importlib.util.spec_from_file_location("authgate_compile", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
