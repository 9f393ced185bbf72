"""Regular expressions that match no whole key and are found inside of some: what to say of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import regex

from statex.core.record import record
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import lints
from statex.dsl.keys.patterns import REGEX_SECONDS, Pattern

_SEARCHED = 20_000
"""So many keys are searched."""


@record
class Inside:
    """In how many keys a regular expression is found, and a pattern that matches these whole (empty: none known)."""

    count: int
    whole: str


def found_inside(pattern: Pattern, keys: Iterable[str]) -> Inside | None:
    """Return where a pattern that matches no key whole would match inside of keys, `None` where it would not."""
    if pattern.regex is None:
        return None
    try:
        found = [key for key in islice(keys, _SEARCHED) if pattern.regex.search(key, timeout=REGEX_SECONDS)]
        return Inside(len(found), _whole(pattern, found)) if found else None
    except TimeoutError:
        return None


def _whole(pattern: Pattern, keys: list[str]) -> str:
    """Return the pattern with as little around it as it takes to match the keys whole."""
    assert pattern.regex is not None
    before, _, rest = pattern.node.span.text.partition("/")
    written, meant = rest[:-1], pattern.regex.pattern
    if "|" in meant:
        written, meant = f"(?:{written})", f"(?:{meant})"

    def matched(around: tuple[str, str]) -> int:
        whole = regex.compile(f"{around[0]}{meant}{around[1]}")
        return sum(whole.fullmatch(key, timeout=REGEX_SECONDS) is not None for key in keys)

    first, last = max((("", ".*"), (".*", ""), (".*", ".*")), key=matched)
    return f"{before}/{first}{written}{last}/" if matched((first, last)) else ""


def inside_help(pattern: Pattern, keys: Iterable[str], of: str = "key") -> tuple[str, ...]:
    """Return what helps where a pattern matches no key, if it is a regular expression found inside of some."""
    found = found_inside(pattern, keys)
    if found is None:
        return ()
    instead = f": `{found.whole}`" if found.whole else ""
    return (f"a pattern matches whole {of}s, and this is found inside {counted(found.count, of)}{instead}",)


def lint_inside(pattern: Pattern, keys: Iterable[str]) -> Diagnostic | None:
    """Return the warning for a pattern that may match nothing, if it is a regular expression found inside of keys."""
    found = found_inside(pattern, keys)
    if found is None:
        return None
    return diagnostic(
        lints.REGEX_INSIDE,
        f"this matches no whole key, and is found inside {counted(found.count, 'key')}",
        pattern.node.span,
        help=f"to match whole keys: `{found.whole}`" if found.whole else (),
    )
