"""The text of the grammar and its regular expressions, for code that writes rules and must know how they are read."""

from __future__ import annotations

import re
from functools import cache
from pkgutil import get_data

_TERMINAL = re.compile(r"^([A-Z_]+)(?:\.\d+)?: /(.*)/$", re.MULTILINE)


def grammar_text() -> str:
    """Return `statex.lark`."""
    data = get_data("statex.grammar", "statex.lark")
    assert data is not None, "every loader of packages gives the files in them"
    return data.decode("utf-8")


def terminal(name: str) -> re.Pattern[str]:
    """Return the regular expression of a terminal."""
    return re.compile(_texts()[name])


@cache
def _texts() -> dict[str, str]:
    return dict(_TERMINAL.findall(grammar_text()))
