"""Equal statements about keys that differ in numbers alone, written as one with captures."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from itertools import chain, count

from statex.core.record import record
from statex.diagnostics.folding import without_numbers
from statex.grammar import factory as make
from statex.grammar import tree

_NUMBER = re.compile(r"(?<![0-9])(?:0|[1-9][0-9]{0,17})(?![0-9])")


@record
class KeyMove:
    """What is made of keys: under which keys, and the expression; a `fixed` one names keys, and stands alone."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    value: tree.Expr | None = None
    fixed: bool = False


@record
class WrittenMove:
    """A move as it is written."""

    sources: tuple[tree.PatternNode, ...]
    targets: tuple[tree.PatternNode, ...]
    value: tree.Expr | None


def folded_moves(
    moves: Sequence[KeyMove],
    write: Callable[[WrittenMove], tree.Statement],
    fold: bool,
    taken: Container[str] = (),
) -> list[tree.Statement]:
    """Return the statements of moves; with `fold`, those that say the same of other numbers are one.

    `taken` are names that captures cannot have.
    """
    groups: dict[Hashable, list[KeyMove]] = {}
    for number, move in enumerate(moves):
        alike: Hashable = number
        if fold and not move.fixed:
            alike = tuple(map(without_numbers, (*move.sources, *move.targets))), len(move.sources), move.value
        groups.setdefault(alike, []).append(move)
    found: list[tree.Statement] = []
    for members in groups.values():
        together = _together(members, taken) if len(members) > 1 else None
        found += [write(together)] if together is not None else [write(_alone(move)) for move in members]
    return found


def _alone(move: KeyMove) -> WrittenMove:
    return WrittenMove(tuple(map(make.key, move.sources)), tuple(map(make.key, move.targets)), move.value)


def _together(moves: Sequence[KeyMove], taken: Container[str]) -> WrittenMove | None:
    """Return several moves as one with captures, or `None` where the numbers of their targets do not follow."""
    columns: dict[tuple[int, ...], str] = {}
    names = (name for name in chain(["n"], (f"n{number}" for number in count(2))) if name not in taken)
    width = len(moves[0].sources)
    keys = list(zip(*[(*move.sources, *move.targets) for move in moves], strict=True))
    written: list[tree.PatternNode] = []
    for number, members in enumerate(keys):
        node = _pattern(members, columns, names if number < width else None)
        if node is None:
            return None
        written.append(node)
    captured = [{p.name for p in one.pieces if isinstance(p, tree.Capture)} for one in written[:width]]
    if any(one != captured[0] for one in captured):
        return None
    return WrittenMove(tuple(written[:width]), tuple(written[width:]), moves[0].value)


def _pattern(
    keys: Sequence[str], columns: dict[tuple[int, ...], str], names: Iterator[str] | None
) -> tree.PatternNode | None:
    texts = _NUMBER.split(keys[0])
    numbers = list(zip(*[map(int, _NUMBER.findall(key)) for key in keys], strict=True))
    pieces: list[tree.Piece | str] = [texts[0]]
    seen: set[str] = set()
    for column, text in zip(numbers, texts[1:], strict=True):
        if len(set(column)) == 1:
            pieces.append(str(column[0]))
        elif column in columns:
            name = columns[column]
            pieces.append(
                make.capture(
                    name, tree.CaptureForm.INT if names is not None and name not in seen else tree.CaptureForm.PLAIN
                )
            )
            seen.add(name)
        elif names is not None:
            name = columns[column] = next(names)
            pieces.append(make.capture(name, tree.CaptureForm.INT))
            seen.add(name)
        else:
            return None
        pieces.append(text)
    return make.pattern(_joined(pieces))


def _joined(pieces: Sequence[tree.Piece | str]) -> list[tree.Piece | str]:
    found: list[tree.Piece | str] = []
    for piece in pieces:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        elif piece:
            found.append(piece)
    return found
