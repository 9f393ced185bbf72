"""The command line: one module a command, built on the public API alone."""

from __future__ import annotations

import os
import sys

__all__ = ["completes", "main"]


def completes() -> bool:
    """Say whether a shell asks what it might complete, and wants to see nothing else."""
    return os.environ.get("_STATEX_COMPLETE", "").startswith("complete")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    if arguments is not None:
        from statex.cli.app import run

        run(arguments)
        return
    # Before anything that takes time to import: a signal may come at once.
    from statex.cli.signals import Stopped, install, leave

    try:
        try:
            install()
            from statex.core import garbage

            garbage.leave()  # what is imported is kept as well
            # torch's threads would keep their cores busy between two computations, and those are needed to write.
            os.environ.setdefault("OMP_WAIT_POLICY", "passive")
            from statex.cli.app import run

            run(sys.argv[1:])
        finally:
            leave()
    except Stopped as stopped:
        if not completes():
            print(f"statex: stopped by {stopped.name}", file=sys.stderr)
        sys.exit(128 + stopped.number)
