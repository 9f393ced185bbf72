"""The position of each character of a YAML scalar: undoes escapes, folded lines and indentation.

The parser gives the value and the place of the whole; this reads the same text again, run by run.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence

from statex.core.yaml_text import Scalar

_BREAK = re.compile(r"\r?\n")
_HEADER = re.compile(r"[|>][-+0-9]*[ \t]*(?:#[^\r\n]*)?(?:\r?\n|\Z)")
_FOLD = r"(?P<fold>[ \t]*(?:\r?\n[ \t]*)+)|(?P<run>[ \t]+|"
_FLOW = {
    "": re.compile(_FOLD + r"[^ \t\r\n]+)"),
    "'": re.compile(_FOLD + r"[^ \t\r\n']+)|(?P<quote>'')"),
    '"': re.compile(
        _FOLD + r"[^ \t\r\n\\]+)|\\(?P<continued>\r?\n[ \t]*(?:\r?\n[ \t]*)*)|(?P<escape>\\(?:x.{2}|u.{4}|U.{8}|.))"
    ),
}
"""What quoted and plain scalars are made of, by their style."""
_NAMED = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b",
    "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip

Run = tuple[str, int]
"""Characters that stand one after the other from an offset on; what is written as an escape is a run of its own."""
Line = tuple[int, str, str]
"""Where a line begins, what is on it, and its line end: a newline, or nothing at the end of the text."""


def places(text: str, scalar: Scalar) -> Sequence[int]:
    """Return the offset in `text` of every character of a scalar that is a text, and of its end.

    A character that is written as an escape has the place of its backslash (or of the first of two quotes); the blank
    that stands for a line end, that of this line end. The end is after the last character, before a closing quote and
    before the line ends that close a block.
    """
    value = scalar.value
    assert isinstance(value, str), "only texts have characters"
    if scalar.style in ("|", ">"):
        return _block(text, scalar, value)
    quoted = len(scalar.style)
    found = _collected(_flow(text, scalar.start + quoted, scalar.end - quoted, scalar.style), value)
    found.append(scalar.end - quoted)
    return found


def _collected(runs: Iterable[Run], value: str) -> array[int]:
    """Return the places of the characters of a value: runs that go on after its end are line ends it does not keep."""
    found = array("Q")
    texts = []
    for text, at in runs:
        texts.append(text)
        found.extend(range(at, at + len(text)))
    assert "".join(texts).startswith(value), "a scalar is read as the parser reads it"
    return found[: len(value)]


def _flow(text: str, start: int, end: int, style: str) -> Iterator[Run]:
    """Yield the runs of a plain or quoted scalar, of what is between its quotes."""
    for found in _FLOW[style].finditer(text, start, end):
        kind, at = found.lastgroup, found.start()
        if kind == "fold":
            yield from _folded(found)
        elif kind == "continued":
            yield from (("\n", b.start()) for b in list(_BREAK.finditer(text, at, found.end()))[1:])
        elif kind == "run":
            yield found.group(), at
        else:
            yield "'" if kind == "quote" else _unescaped(found.group()), at


def _folded(fold: re.Match[str]) -> Iterator[Run]:
    """Yield what a run of line ends with the blanks around them becomes: a blank, or one line end less."""
    breaks = [b.start() for b in _BREAK.finditer(fold.string, fold.start(), fold.end())]
    if len(breaks) == 1:
        yield " ", fold.start()
    yield from (("\n", at) for at in breaks[1:])


def _unescaped(escape: str) -> str:
    return chr(int(escape[2:], 16)) if len(escape) > 2 else _NAMED.get(escape[1], escape[1])


def _block(text: str, scalar: Scalar, value: str) -> array[int]:
    header = _HEADER.match(text, scalar.start)
    assert header is not None, "a block scalar has a header"
    lines = list(_lines(text, header.end(), scalar.end))
    indentation = _indentation(lines, value)
    runs = _literal(lines, indentation) if scalar.style == "|" else _folded_block(lines, indentation)
    found = _collected(runs, value)
    last = len(value.rstrip("\n"))
    found.append(found[last] if last < len(found) else found[-1] + 1 if found else header.end())
    return found


def _lines(text: str, start: int, end: int) -> Iterator[Line]:
    while start < end:
        found = _BREAK.search(text, start, end)
        stop, after = found.span() if found else (end, end)
        yield start, text[start:stop], "\n" if found else ""
        start = after


def _indentation(lines: list[Line], value: str) -> int:
    """Return how many blanks stand before each line, told by the first one that is not empty."""
    empty = len(value) - len(value.lstrip("\n"))
    if empty == len(value):
        return max((len(line) for _, line, _ in lines), default=0)
    first, rest = lines[empty][1], value[empty:]
    return (len(first) - len(first.lstrip(" "))) - (len(rest) - len(rest.lstrip(" ")))


def _literal(lines: list[Line], indentation: int) -> Iterator[Run]:
    for start, line, end in lines:
        yield line[indentation:], start + indentation
        yield end, start + len(line)


def _folded_block(lines: list[Line], indentation: int) -> Iterator[Run]:
    waiting: list[int] = []
    """The places of the line ends since the last line that is not empty, its own first."""
    was_text = False
    for start, line, end in lines:
        content = line[indentation:]
        if content:
            is_text = content[0] not in " \t"
            yield from _joined(waiting, was_text and is_text)
            yield content, start + indentation
            waiting, was_text = [], is_text
        if end:
            waiting.append(start + len(line))
    yield from (("\n", at) for at in waiting)


def _joined(waiting: list[int], folds: bool) -> Iterator[Run]:
    if folds and len(waiting) == 1:
        yield " ", waiting[0]
    else:
        yield from (("\n", at) for at in waiting[int(folds) :])
