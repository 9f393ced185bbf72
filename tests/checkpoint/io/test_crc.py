"""Checksums, with isal and without, against zlib's."""

from __future__ import annotations

import sys
import zlib
from importlib import reload

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statex.checkpoint.io import crc


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_of_bytes_behind_one_another(one: bytes, other: bytes) -> None:
    whole = zlib.crc32(one + other)
    assert crc.crc32(memoryview(other), crc.crc32(one)) == whole
    assert crc.combined(zlib.crc32(one), zlib.crc32(other), len(other)) == whole


def test_without_isal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert crc.crc32 is not zlib.crc32
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    try:
        assert reload(crc).crc32 is zlib.crc32
    finally:
        monkeypatch.undo()
        reload(crc)
