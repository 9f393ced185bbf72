"""Trees of texts with syntax errors: unreadable statements are left out, and `Bad` ones stand for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from statex.core.source import Source, Span
from statex.grammar.parser import ATTEMPTS, Failed, next_statement, once
from statex.grammar.postlex import Seen
from statex.grammar.tree import Bad, If, Program

_TEXT = r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|\#[^\n]*"""
_PARTS = re.compile(rf"(?P<text>{_TEXT})|(?P<open>\{{(?=[ \t\f\r\n]))|(?P<close>(?<=[\s;])\}})")
_NOT_BLANK = re.compile(r"[^\s]")


def with_holes(source: Source, text: str, failures: Iterable[tuple[Failed, Seen]]) -> tuple[Program, Seen]:
    """Return the tree of a text and the tokens of what was read; what could not be read is `Bad` in it."""
    # Mostly these are all, and the text is read once more; else an error hid another one.
    known = [_hole(source, text, failed, seen) for failed, seen in failures]
    found = _read(source, text, known, 1) or _read(source, text, [], ATTEMPTS)
    return found or (Program(source, _filled((), [Span(source, 0, len(text))], ())), Seen())


def _read(source: Source, text: str, holes: list[Span], attempts: int) -> tuple[Program, Seen] | None:
    """Return the tree of a text with these holes and those that are found on the way; `None` where they do not do."""
    masked = text
    for hole in holes:
        masked = _without(masked, hole)
    for _ in range(attempts):
        seen = Seen()
        try:
            program = once(source, masked, seen=seen, groups=True)
        except Failed as failed:
            hole = _hole(source, masked, failed, seen)
            masked = _without(masked, hole)
            holes.append(hole)
            continue
        elses = [token.start_pos for token in seen.tokens if token.type == "ELSE" and token.start_pos is not None]
        return Program(source, _filled(program.statements, _joined(holes, text), elses)), seen
    return None


def _without(text: str, hole: Span) -> str:
    """Return a text with blanks in place of a part, line ends kept."""
    return text[: hole.start] + _NOT_BLANK.sub(" ", text[hole.start : hole.end]) + text[hole.end :]


def _hole(source: Source, text: str, failed: Failed, seen: Seen) -> Span:
    """Return the statement that an error is in, up to where the next one starts or the block around it ends."""
    start = seen.statement_at(failed.at if failed.opened is None else failed.opened)
    end = min(next_statement(text, failed.at, failed.opened), _end_of_block(text, start, failed.at))
    while end > start and text[end - 1].isspace():
        end -= 1
    # An error of what is blank already, such as a block that is not closed, is one of all that follows.
    return Span(source, start, end) if text[start:end].strip() else Span(source, 0, len(text))


def _end_of_block(text: str, start: int, at: int) -> int:
    """Return where the block that a statement stands in ends, if not before an offset."""
    depth = 0
    for found in _PARTS.finditer(text, start):
        if found.lastgroup == "open":
            depth += 1
        elif found.lastgroup == "close":
            depth -= 1
            if depth < 0 and found.start() > at:
                return found.start()
            if depth < 0 and found.start() == at:
                return found.end()
    return len(text)


def _joined(holes: Sequence[Span], text: str) -> list[Span]:
    """Return holes in their order; those that touch, as they are found where one was read in parts, are one."""
    joined: list[Span] = []
    for hole in sorted(holes, key=lambda one: (one.start, one.end)):
        if joined and hole.start <= joined[-1].end:
            joined[-1] = joined[-1].to(hole)
        elif text[hole.start : hole.end].strip():
            joined.append(hole)
    return joined


def _filled(statements: Sequence[Any], holes: Sequence[Span], elses: Sequence[int]) -> tuple[Any, ...]:
    """Return statements with those that could not be read among them."""
    found: list[Any] = []
    left = list(holes)
    for statement in statements:
        span = statement.span
        found += [Bad(hole) for hole in left if hole.end <= span.start]
        inside = [hole for hole in left if span.start <= hole.start and hole.end <= span.end]
        found.append(_within(statement, inside, elses) if inside else statement)
        left = [hole for hole in left if hole.start >= span.end]
    return (*found, *map(Bad, left))


def _within(statement: Any, holes: Sequence[Span], elses: Sequence[int]) -> Any:
    """Return a block with statements that could not be read in it."""
    if not isinstance(statement, If):
        return replace(statement, body=_filled(statement.body, holes, elses))
    end = max([statement.condition.span.end, *(one.span.end for one in statement.then)])
    divide = next((at for at in elses if end <= at < statement.span.end), statement.span.end)
    return replace(
        statement,
        then=_filled(statement.then, [hole for hole in holes if hole.start < divide], elses),
        otherwise=_filled(statement.otherwise, [hole for hole in holes if hole.start >= divide], elses),
    )
