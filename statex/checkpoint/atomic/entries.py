"""The text of journals.

A journal is two lines of JSON. The first is there before the output is written, and says which temporary name that has;
the second, before any output of the run gets its name, lists them all. A line that is not whole was never acted upon.
Paths are percent-encoded, as names may be bytes that are not text.

A journal may be a stranger's, or a copy: each name in it has to be one that statex gives, in the folder of its output,
and its own output has to be where the journal is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from statex.checkpoint.atomic.moves import Identity, Move
from statex.checkpoint.atomic.names import journal_of
from statex.checkpoint.atomic.renames import is_beside
from statex.checkpoint.formats.strict_json import parse
from statex.core.record import record
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

LARGEST = 4 << 20
"""Bytes that a journal may have."""
_VERSION = 1
_START = f'{{"statex":{_VERSION},'.encode()


@record
class JournalEntry:
    """What a journal says: the run and its output; and, once nothing but renames is left, all outputs of the run."""

    run: str
    final: Path
    temporary: Path
    moves: tuple[Move, ...] = ()


def refuse(path: Path, why: str) -> NoReturn:
    """Raise that a journal is not followed.

    Raises:
        StatexError: SX622.
    """
    fail(
        codes.BAD_JOURNAL,
        f"the journal `{path}` is not followed: {why}",
        help=f"if the outputs beside it are as you want them: rm '{path}'",
    )


def encode_head(entry: JournalEntry) -> bytes:
    """Return the first line."""
    return _line(
        {
            "statex": _VERSION,
            "run": entry.run,
            "final": _quote(entry.final),
            "temporary": _quote(entry.temporary),
        }
    )


def encode_moves(moves: Sequence[Move]) -> bytes:
    """Return the second line.

    Raises:
        OSError: if there are more outputs than a journal has room for.
    """
    line = _line({"moves": [_encode_move(move) for move in moves]})
    if len(line) > LARGEST // 2:
        raise OSError(f"{len(moves)} outputs are too many for one run")
    return line


def _line(value: Mapping[str, Any]) -> bytes:
    import json

    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def _encode_move(move: Move) -> dict[str, Any]:
    return {
        "final": _quote(move.final),
        "temporary": _quote(move.temporary),
        "folder": move.is_folder,
        "staged": _encode_identity(move.staged),
        "previous": _encode_identity(move.previous) if move.previous is not None else None,
    }


def _encode_identity(one: Identity) -> dict[str, Any]:
    return {"inode": one.inode, "size": one.size, "mtime": one.mtime, "entries": one.entries}


def _quote(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.fsencode(path))


def decode(path: Path, data: bytes) -> JournalEntry | None:
    """Return what the journal at a path says; `None` if its first line is not whole.

    Raises:
        StatexError: SX622 if it is not one that statex makes, or is not in its place.
    """
    first, end, rest = data.partition(b"\n")
    if not end:
        if not _START.startswith(first[: len(_START)]):
            refuse(path, "statex did not write it")
        return None
    head = _Fields(path, parse(first, "it", lambda why: refuse(path, why)), "statex run final temporary")
    if head.number("statex") != _VERSION:
        refuse(path, "another version of statex has written it")
    entry = JournalEntry(head.text("run"), *head.paths())
    _check_place(path, entry.final)
    second, end, more = rest.partition(b"\n")
    if not end:
        return entry
    moves = _moves(path, second)
    if more or (entry.final, entry.temporary) not in [(move.final, move.temporary) for move in moves]:
        refuse(path, "its parts contradict each other")
    return JournalEntry(entry.run, entry.final, entry.temporary, moves)


def _check_place(path: Path, final: Path) -> None:
    expected = journal_of(final)
    if path.name != expected.name:
        refuse(path, f"it is the journal of `{final}`")
    if os.path.realpath(path.parent) != str(expected.parent):
        refuse(path, f"it was moved or copied here: its output is `{final}`")


def _moves(path: Path, line: bytes) -> tuple[Move, ...]:
    listed = _Fields(path, parse(line, "it", lambda why: refuse(path, why)), "moves").values["moves"]
    if not isinstance(listed, list):
        refuse(path, "its `moves` is not a list")
    moves = tuple(_decode_move(_Fields(path, one, "final temporary folder staged previous")) for one in listed)
    if len({move.final for move in moves}) < len(moves):
        refuse(path, "it lists an output twice")
    return moves


def _decode_move(fields: _Fields) -> Move:
    final, temporary = fields.paths()
    previous = fields.identity("previous") if fields.values["previous"] is not None else None
    return Move(final, temporary, fields.flag("folder"), fields.identity("staged"), previous)


class _Fields:
    """The fields of an object in a journal, each of which is there and of its type."""

    def __init__(self, path: Path, values: Any, names: str) -> None:
        if not isinstance(values, dict) or values.keys() != set(names.split()):
            refuse(path, f"it has something other than the fields {names}")
        self.path = path
        self.values = values

    def text(self, name: str) -> str:
        value = self.values[name]
        if not isinstance(value, str) or not value.isascii():
            refuse(self.path, f"its `{name}` is not ASCII text")
        return value

    def number(self, name: str) -> int:
        value = self.values[name]
        if type(value) is not int or not -(1 << 63) <= value < 1 << 64:
            refuse(self.path, f"its `{name}` is not a 64-bit number")
        return value

    def flag(self, name: str) -> bool:
        value = self.values[name]
        if not isinstance(value, bool):
            refuse(self.path, f"its `{name}` is neither true nor false")
        return value

    def identity(self, name: str) -> Identity:
        fields = _Fields(self.path, self.values[name], "inode size mtime entries")
        return Identity(fields.number("inode"), fields.number("size"), fields.number("mtime"), fields.text("entries"))

    def paths(self) -> tuple[Path, Path]:
        """Return an output and its temporary name, which is one that statex gives for it, beside it."""
        final, temporary = self._path("final"), self._path("temporary")
        if temporary.parent != final.parent or not is_beside(final, temporary.name):
            refuse(self.path, f"`{temporary}` is not a temporary name for `{final}`")
        return final, temporary

    def _path(self, name: str) -> Path:
        from urllib.parse import unquote_to_bytes

        path = os.fsdecode(unquote_to_bytes(self.text(name)))
        if "\0" in path or not path.startswith("/") or os.path.normpath(path) != path or path.startswith("//"):
            refuse(self.path, f"its `{name}` is not an absolute path")
        return Path(path)
