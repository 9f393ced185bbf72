"""JSON as headers and indices have it: a name that comes twice, and numbers that are none, are refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn


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
        return json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        damaged(f"{what} is no JSON: {error}")
