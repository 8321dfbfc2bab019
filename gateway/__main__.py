"""`gateway`, and `python -m gateway`: the console command."""

import gc
import os
import signal
import sys


def main() -> int:
    """Its exit code (docs/commands.md)."""
    if os.getpid() == 1:
        # To process 1, as it is in a container, the kernel brings no signal that has no handler
        # (pid_namespaces(7)): a start or a command that is told to end would go on until it is
        # killed.  The master of a gateway that serves handles it itself.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # No package of the environment has a say in what a setting means, and to look for one that
    # asks for it takes reading what every package tells of itself.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Until the command is imported, which leaves nothing to collect (`cli.main`).
    gc.disable()
    # After that: to import them takes the longer part of a second.
    from gateway import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
