"""The command line: one module a command, built on the public API alone."""

from statex.cli.app import main

__all__ = ["main"]
