"""The chain of `nets.STEPS`."""

from __future__ import annotations

from pathlib import Path

import pytest

import statex
from tests.migrating import nets


@pytest.fixture
def chain(tmp_path: Path) -> statex.Chain:
    folder = tmp_path / "chain"
    folder.mkdir()
    for name, text in nets.STEPS.items():
        (folder / f"{name}.sx").write_text(text)
    return statex.migrations(folder)
