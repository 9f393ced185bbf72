"""How much the tests try: what a change is checked by in minutes, or with STATEX_NIGHTLY all that there is."""

from __future__ import annotations

import os

NIGHTLY = bool(os.environ.get("STATEX_NIGHTLY"))
"""Set by `make nightly`: every example, every dtype, and the tests marked `nightly`."""

_PART, _LEAST = 5, 20


def examples(number: int) -> int:
    """Return how many random examples a test tries that tries `number` of them at night."""
    return number if NIGHTLY else max(_LEAST, number // _PART)


def least(number: int) -> int:
    """Return how often something has to come up in as many examples, where it has to `number` times at night."""
    return number if NIGHTLY else max(1, number // (3 * _PART))
