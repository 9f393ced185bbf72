"""Runs a command in a process of its own, which must not import torch."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from statex.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code
assert "torch" not in sys.modules
"""


def run_without_torch(*arguments: object) -> None:
    """Run `statex` with these arguments."""
    subprocess.run([sys.executable, "-c", SCRIPT, *map(str, arguments)], check=True)
