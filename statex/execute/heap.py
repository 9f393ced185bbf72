"""Memory that was freed goes back to the system: the allocator of glibc keeps blocks of up to 32 MiB for later."""

from __future__ import annotations

from typing import Any

_STEP = 32 << 20
"""Bytes that are free again before it is worth to look for them."""


class Heap:
    """Gives memory back to the system whenever enough of it is free."""

    def __init__(self) -> None:
        self._free = 0

    def freed(self, nbytes: int) -> None:
        """Note that so many bytes, about, were allocated and are free again."""
        self._free += nbytes
        if self._free < _STEP:
            return
        self._free = 0
        import ctypes

        trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # other systems have other allocators
            trim(0)
