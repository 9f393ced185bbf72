"""Numbers as messages write them."""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def show_bytes(count: int) -> str:
    """Write a number of bytes in the unit that fits, powers of 1024."""
    if count < 1024:
        return f"{count} B"
    size = count / 1024
    units = iter(_UNITS)
    unit = next(units)
    while round(size, 1) >= 1024 and (larger := next(units, "")):
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}"


def counted(count: int, what: str, several: str = "") -> str:
    """Write `1 key`, `2 keys`, or what several are called."""
    return f"{count} {what}" if count == 1 else f"{count} {several or what + 's'}"
