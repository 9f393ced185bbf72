"""The page of a code."""

from __future__ import annotations

import re
from textwrap import fill, indent

from statex.diagnostics.codes import Code

_WIDTH = 96
_HELD = "\xa0"
"""A blank at which no line ends."""


def explain(code: Code) -> str:
    """Return the page of a code: what it means, the smallest text that shows it, what to do, and the exit code.

    The example is indented by four and otherwise as it was declared.
    """
    return "\n\n".join(
        [
            f"{code.id}: {code.title}",
            _filled(code.meaning),
            "Example:\n\n" + indent(code.example.strip("\n"), "    "),
            "What to do:\n\n" + _filled(code.fix),
            f"Exit code: {code.exit}" if code.exit else "Exit code: 0 (a warning; the work goes on)",
        ]
    )


def _filled(text: str) -> str:
    """Fill a text to the width, without a line end inside `code`, so that it can be pasted."""
    whole = re.sub("`[^`]*`", lambda code: code.group().replace(" ", _HELD), text)
    return fill(whole, _WIDTH, break_long_words=False, break_on_hyphens=False).replace(_HELD, " ")
