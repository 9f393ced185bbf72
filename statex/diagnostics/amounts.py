"""Numbers as messages write them."""

from __future__ import annotations


def show_bytes(count: int) -> str:
    """Write a number of bytes in the unit that fits, powers of 1024."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if round(size, 1) < 1024 or unit == "TiB":
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


def counted(count: int, what: str, several: str = "") -> str:
    """Write `1 key`, `2 keys`, or what several are called."""
    return f"{count} {what}" if count == 1 else f"{count} {several or what + 's'}"
