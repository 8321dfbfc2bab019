"""The engine of CEL, without the command line tool that its package brings along.

`import cel` reads a prompt, a highlighter and all that they need too.  Nothing of it is asked for
here, and it is a fifth of the start of a command and 15 MB of a process.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import cel as cel
else:
    # Whoever does import the whole package, before or after, has to get this very module: the
    # engine sets itself up once in a process, and fails the second time.
    cel = sys.modules.get("cel.cel")
    if cel is None:
        found = PathFinder.find_spec("cel.cel", find_spec("cel").submodule_search_locations)
        cel = module_from_spec(found)
        found.loader.exec_module(cel)
        sys.modules["cel.cel"] = cel
