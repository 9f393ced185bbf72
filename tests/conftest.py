"""Which tests run, and in which order: the cheap ones first, so that a mistake is found in the first minute."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.effort import NIGHTLY, examples

# On a busy machine it is not the strategies that are slow.
settings.register_profile("effort", max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("effort")

_ORDER = (
    "tests/grammar", "tests/dsl", "tests/diagnostics", "tests/execute", "tests/recipe", "tests/migrating", "tests",
    "tests/checkpoint", "tests/cli", "examples",
)  # fmt: skip
_HERE = Path(__file__).parent.parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order tests by the rooms that they are of, without those of the night; within a file they stay as they stand."""
    later = [] if NIGHTLY else [item for item in items if item.get_closest_marker("nightly") is not None]
    config.hook.pytest_deselected(items=later)
    items[:] = sorted((item for item in items if item not in later), key=_rank)


def _rank(item: pytest.Item) -> int:
    folder = item.path.relative_to(_HERE).parent
    while folder.as_posix() not in _ORDER and folder.parts:
        folder = folder.parent
    return _ORDER.index(folder.as_posix()) if folder.parts else len(_ORDER)
