"""The last step of the image's build stage: what was installed becomes what is shipped.

    python3 assemble.py PREFIX SBOM

The same tree whenever it is built: without what tells of the build, with bytecode that needs no
times.  What no gateway needs is taken away.
"""

import compileall
import csv
import json
import os
import py_compile
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

COMMANDS = {"gateway", "python", "python3"}
"""Of the environment's `bin`; the dependencies bring some twenty others."""
OF_THE_BUILD = ("direct_url.json", "uv_cache.json", "REQUESTED")
"""Beside the metadata of a package: where it was installed from."""
NOT_NEEDED = ("tests", "test", "*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "*.a", "*.hash")
"""What only a compiler, a type checker or the package's own tests read."""


def main(prefix: Path, sbom: Path) -> None:
    for found in (prefix / "bin").iterdir():
        if found.name not in COMMANDS and not found.name.startswith("python3."):
            found.unlink()
    for name in ("include", "share", ".lock", ".gitignore", "CACHEDIR.TAG"):
        _remove(prefix / name)
    [packages] = prefix.glob("lib/python3*/site-packages")
    for pattern in OF_THE_BUILD:
        for found in list(packages.glob(f"*.dist-info/{pattern}")):
            found.unlink()
    for pattern in NOT_NEEDED:
        for found in list(packages.rglob(pattern)):
            if found.relative_to(packages).parts[0] != "gateway":
                _remove(found)
    for record in packages.glob("*.dist-info/RECORD"):
        _tell_what_is_there(record)
    # By contents, and never looked at again: a time would be another at each build.
    if not compileall.compile_dir(
        packages, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    ):
        raise SystemExit("some module does not compile")
    libexec = prefix / "libexec"
    libexec.mkdir()
    for name in ("healthcheck.py", "strip_base.py"):
        shutil.copyfile(Path(__file__).with_name(name), libexec / name)
    share = prefix / "share"
    share.mkdir(exist_ok=True)
    (share / "sbom.cdx.json").write_text(_repeatable(sbom.read_text("utf-8")), "utf-8")
    shutil.copyfile("LICENSE", share / "LICENSE")
    for folder, _, files in os.walk(prefix):
        os.chmod(folder, 0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _tell_what_is_there(record: Path) -> None:
    """Takes what was removed out of the list of a package's files."""
    packages = record.parents[1]
    with record.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.reader(stream) if row and (packages / row[0]).exists()]
    with record.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(sorted(rows))


def _repeatable(text: str) -> str:
    """The bill of materials without the number and the time of its making."""
    bill = json.loads(text)
    bill.pop("serialNumber", None)
    made_at = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    bill["metadata"]["timestamp"] = made_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps(bill, indent=1, sort_keys=True) + "\n"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
