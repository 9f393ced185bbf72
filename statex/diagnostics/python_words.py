"""Options of the command line in the words of Python, for errors that Python shows: `--force` is `force=True`."""

from __future__ import annotations

import re
from collections.abc import Callable

_VALUE = r"(\"[^\"]*\"|'[^']*'|[^\s`,;]+)"

Say = Callable[[re.Match[str]], str]


def _written(text: str) -> str:
    """Write what a shell would give as Python does; words in capitals are to be filled in."""
    inner = text[1:-1] if text[0] in "\"'" else text
    return inner if inner.startswith("[") or re.fullmatch(r"[A-Z]+|…", inner) else repr(inner)


_OPTIONS: tuple[tuple[str, Say], ...] = (
    (r"--in (\w+)=(\S+)", lambda found: f"inputs={{{found[1]!r}: {_written(found[2])}}}"),
    (r"-D (\w+)=(\S+)", lambda found: f"params={{{found[1]!r}: {found[2]}}}"),
    (r"--(root|at|like|target|assume|stem) " + _VALUE, lambda found: f"{found[1]}={_written(found[2])}"),
    (r"--params FILE", lambda found: "params=…"),
    (r"with `--target-arg name=value`", lambda found: "with a function that takes none"),
    (r"--no-update-config\b", lambda found: "update_config=False"),
    (
        r"--(force|keep-foreign|copy-files|check-input|verify-written|dry-run)\b",
        lambda found: f"{_name(found[1])}=True",
    ),
    (r"--(format|rtol|atol|max-memory|shard-size|stem|root|like|target|at)\b", lambda found: _name(found[1])),
)


def _name(option: str) -> str:
    return option.replace("-", "_")


def in_python(text: str) -> str:
    """Return a text with the options in it as arguments of Python's functions."""
    for pattern, say in _OPTIONS if "-" in text else ():
        text = re.sub(rf"(?<![\w-]){pattern}", say, text)
    return text
