"""The page of a code."""

from __future__ import annotations

from textwrap import fill, indent

from statex.diagnostics.codes import Code


def explain(code: Code) -> str:
    """Return the page: what the code means, the smallest text that shows it, and what to do."""
    ends = "The command ends with exit code {}.".format(code.exit) if code.exit else "A warning: the work goes on."
    parts = [f"{code.id}: {code.title}", fill(code.meaning, 96), "example:\n" + indent(code.example, "    ")]
    return "\n\n".join([*parts, fill(f"What to do: {code.mend}", 96), ends])
