"""In the image's last stage: takes pip out of the base, and the wheels that would bring it back.

Nobody installs anything in a container: there is one program fewer for an intruder, and nothing
of pip's for a scanner to report.
"""

import shutil
import sysconfig
from glob import glob
from pathlib import Path

PACKAGES = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
PACKAGES.add("/usr/lib/python3/dist-packages")  # of Debian's own Python
PATTERNS = [
    f"{sysconfig.get_path('stdlib')}/ensurepip",
    "/usr/share/python-wheels",
    *(f"{folder}/{name}" for folder in PACKAGES for name in ("pip", "pip-*", "setuptools*")),
    *(f"{folder}/pip*" for folder in (sysconfig.get_path("scripts"), "/usr/bin")),
]

for path in sorted({Path(found) for pattern in PATTERNS for found in glob(pattern)}):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
