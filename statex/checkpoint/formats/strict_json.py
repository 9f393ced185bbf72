"""JSON as headers and indices must be: duplicate names and invalid numbers are refused."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

_HALVES = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escape for half of a character: a pair of them is one, and half of one alone is no text."""


def parse(data: bytes, what: str, damaged: Callable[[str], NoReturn]) -> Any:
    """Return the value of a JSON text; `damaged` is told what is wrong with it, `what` is how to call it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            damaged(f"{what} names `{counts.most_common(1)[0][0]}` twice")
        return found

    def constant(name: str) -> NoReturn:
        damaged(f"{what} holds {name}")

    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
        if _HALVES.search(data):
            json.dumps(found, ensure_ascii=False).encode("utf-8")
        return found
    except (ValueError, RecursionError) as error:
        damaged(f"{what} is not JSON: {error}")


def is_text(key: str) -> bool:
    """Say whether a key is text that UTF-8 has bytes for; a pickle can hold halves of characters."""
    try:
        return key.isascii() or bool(key.encode("utf-8"))
    except UnicodeEncodeError:
        return False
