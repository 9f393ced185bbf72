"""Messages about a rule file, a checkpoint or a target, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import NoReturn

from statex.core.record import record
from statex.core.source import Span
from statex.diagnostics.codes import Code


class Severity(Enum):
    """Whether a diagnostic stops the work."""

    ERROR = "error"
    WARNING = "warning"


@record
class Label:
    """A place in a rule text and what is to be said right there."""

    span: Span
    text: str = ""


@record
class Note:
    """A sentence below the snippet, after its kind: `note`, `help` (something to paste) or `value` (an operand)."""

    kind: str
    text: str


@record
class Diagnostic:
    """One finding.

    The first label is the place at fault, further ones are places it speaks of. `cases` names the keys or captures it
    holds for; a renderer shows the first three and counts the rest. `rows` is a table below the headline: one row a
    line, its cells aligned.
    """

    code: Code
    headline: str
    labels: tuple[Label, ...] = ()
    notes: tuple[Note, ...] = ()
    cases: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    raised: bool = False
    """Whether a warning is to stop the work, as whoever runs it has asked."""

    @property
    def severity(self) -> Severity:
        """Codes of the 9xx family are warnings unless they are raised, all others errors."""
        return Severity.WARNING if self.code.is_lint and not self.raised else Severity.ERROR

    @property
    def span(self) -> Span | None:
        """The place at fault, if there is one in a rule text."""
        return self.labels[0].span if self.labels else None


def diagnostic(
    code: Code,
    headline: str,
    span: Span | None = None,
    *,
    at: str = "",
    also: Iterable[tuple[Span, str]] = (),
    values: Iterable[str] = (),
    notes: Iterable[str] = (),
    help: Iterable[str] | str = (),
    cases: Iterable[str] = (),
    rows: Iterable[tuple[str, ...]] = (),
) -> Diagnostic:
    """Build a diagnostic: `at` is said beside the caret, `also` are further places, `help` can be pasted."""
    helps = (help,) if isinstance(help, str) else tuple(help)
    labels = ((Label(span, at),) if span is not None else ()) + tuple(Label(s, t) for s, t in also)
    lines = (
        *(Note("value", v) for v in values),
        *(Note("note", n) for n in notes),
        *(Note("help", h) for h in helps),
    )
    return Diagnostic(code, headline, labels, lines, tuple(cases), tuple(rows))


def worded(found: Diagnostic, word: Callable[[str], str]) -> Diagnostic:
    """Return a diagnostic whose sentences are said in other words; what it shows of rules stays."""
    notes = tuple(replace(note, text=word(note.text)) if note.kind != "value" else note for note in found.notes)
    return replace(found, headline=word(found.headline), notes=notes)


class StatexError(Exception):
    """Work that could not be done; `diagnostics` says why, every error of the phase at once."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        super().__init__(*self.diagnostics)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.diagnostics,)

    def __str__(self) -> str:
        from statex.diagnostics.python_words import in_python
        from statex.diagnostics.render import render_full

        return "\n\n".join(render_full(worded(one, in_python)) for one in self.diagnostics)

    @property
    def exit_code(self) -> int:
        """The exit code of the command line: the highest among the errors."""
        # A warning that was raised to an error has an exit code of 0.
        return max((d.code.exit for d in self.diagnostics if d.severity is Severity.ERROR), default=1) or 1


def fail(code: Code, headline: str, span: Span | None = None, **details: object) -> NoReturn:
    """Raise a `StatexError` of one diagnostic; the arguments are those of `diagnostic`."""
    raise StatexError([diagnostic(code, headline, span, **details)])  # type: ignore[arg-type]


@contextmanager
def pointing_at(span: Span | None) -> Iterator[None]:
    """Let errors that have no place show this one, if there is one."""
    try:
        yield
    except StatexError as error:
        if span is None:
            raise
        label = (Label(span),)
        raise StatexError(
            [found if found.labels else replace(found, labels=label) for found in error.diagnostics]
        ) from error


class Collector:
    """Gathers the diagnostics of a phase; equal findings at one place become one with several cases.

    A `brief` one raises the first error as it is found, for those who only ask whether there are any.
    """

    def __init__(self, *, brief: bool = False) -> None:
        self.brief = brief
        self._found: dict[tuple[object, ...], Diagnostic] = {}

    def add(self, found: Diagnostic) -> None:
        """Take a diagnostic, or its cases if the same was found at the same place before."""
        key = (found.code.id, found.headline if found.span is None else found.span)
        known = self._found.get(key)
        if known is None:
            self._found[key] = found
        elif found.cases:
            self._found[key] = replace(known, cases=known.cases + found.cases)
        if self.brief and found.severity is Severity.ERROR:
            raise StatexError([found])

    def explains(self, code: Code, span: Span) -> bool:
        """Say whether a finding needs notes and help: those of the first one at a place are shown."""
        return not self.brief and (code.id, span) not in self._found

    def has(self, code: Code, span: Span) -> bool:
        """Say whether a diagnostic of this code was found at a place; of another one only the cases are taken then."""
        return (code.id, span) in self._found

    def extend(self, found: Iterable[Diagnostic]) -> None:
        """Take several."""
        for one in found:
            self.add(one)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All of them, in the order they were found."""
        return tuple(self._found.values())

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """Those that stop the work."""
        return tuple(d for d in self._found.values() if d.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Those that do not."""
        return tuple(d for d in self._found.values() if d.severity is Severity.WARNING)

    def raise_errors(self) -> None:
        """Raise a `StatexError` of all errors, if there are any."""
        if self.errors:
            raise StatexError(self.errors)
