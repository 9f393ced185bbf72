"""Numbers in names: the texts that are written as a count is."""

from __future__ import annotations

import re

NUMBERED = re.compile(r"(?<![^.])[0-9]{1,18}(?![^.])")
"""A whole segment of a key that is a number, zeros before it or not."""
_NUMERAL = re.compile(r"0|[1-9][0-9]{0,17}")


def is_numeral(text: str) -> bool:
    """Say whether a text is what a number from 0 on is written as: no sign, no zeros before it, at most 18 digits.

    Longer ones are no positions or layers of anything, and Python refuses to read them at some length.
    """
    return _NUMERAL.fullmatch(text) is not None
