"""The treatment of warnings: shown, raised as errors, or ignored, as the user has asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from statex.diagnostics import Diagnostic, StatexError
from statex.diagnostics.codes import lints

ALL = "*"
"""Stands for every warning that is not named by its code."""
WAYS = ("error", "warn", "ignore")


def judged(found: Iterable[Diagnostic], policy: Mapping[str, str]) -> tuple[Diagnostic, ...]:
    """Return the warnings that are to be said; `policy` maps codes (`*`: all others) to error, warn or ignore.

    `*` does not turn the news that an interrupted run was settled into an error: there is nothing to fix.

    Raises:
        StatexError: with every warning that is to be an error.
    """
    ways = [(one, policy.get(one.code.id) or _of_all(one, policy.get(ALL, "warn"))) for one in found]
    errors = [replace(one, raised=True) for one, way in ways if way == "error"]
    if errors:
        raise StatexError(errors)
    return tuple(one for one, way in ways if way == "warn")


def _of_all(found: Diagnostic, way: str) -> str:
    return "warn" if found.code is lints.RECOVERED and way == "error" else way
