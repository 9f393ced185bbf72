"""How much memory the machine has."""

from __future__ import annotations

from pathlib import Path


def memory_there_is() -> int | None:
    """Return the bytes of memory and swap that the machine has; `None` where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    said = dict(line.split(":", 1) for line in lines if ":" in line)
    found = [int(said[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal") if name in said]
    return sum(found) if found else None
