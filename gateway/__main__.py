"""`gateway`, and `python -m gateway`: the console command."""

import gc
import os
import signal
import sys

_SOON_S = 0.01


def end_at_sigterm() -> None:
    """From the main thread: SIGTERM ends this process, and what it has begun is tidied up."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGALRM, _end)
    sys.unraisablehook = _end_soon


def _end(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def _end_soon(dropped: "sys.UnraisableHookArgs") -> None:
    """What is raised in a callback, of an import or of the collector, is dropped there: an exit
    is raised again behind it."""
    if dropped.exc_type is SystemExit:
        signal.setitimer(signal.ITIMER_REAL, _SOON_S)
    else:
        sys.__unraisablehook__(dropped)


def main() -> int:
    """Its exit code (docs/commands.md)."""
    if os.getpid() == 1:
        # To process 1, as it is in a container, the kernel brings no signal that has no handler
        # (pid_namespaces(7)): a start or a command that is told to end would go on until it is
        # killed.  The master of a gateway that serves handles it itself.
        end_at_sigterm()
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
