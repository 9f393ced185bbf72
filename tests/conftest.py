"""The order of all tests: the cheap ones first, so that a mistake is found in the first minute."""

from __future__ import annotations

from pathlib import Path

import pytest

_ORDER = (
    "tests/grammar", "tests/dsl", "tests/diagnostics", "tests/execute", "tests/recipe", "tests/migrating", "tests",
    "tests/checkpoint", "tests/cli", "examples",
)  # fmt: skip
_HERE = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order tests by the rooms that they are of; within a file they stay as they stand."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    folder = item.path.relative_to(_HERE).parent
    while folder.as_posix() not in _ORDER and folder.parts:
        folder = folder.parent
    return _ORDER.index(folder.as_posix()) if folder.parts else len(_ORDER)
