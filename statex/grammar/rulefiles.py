"""Rule files as they are read from disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from statex.core.source import ENDING, LIBRARY, Source
from statex.core.text_file import not_utf8
from statex.diagnostics import fail
from statex.diagnostics.amounts import show_bytes
from statex.diagnostics.codes import Code
from statex.diagnostics.codes import names as codes

LARGEST = 2 << 20
"""Bytes of a rule file, characters of a text: to parse them takes some hundred times as much memory."""

_MISPLACED = "name the rule file before the checkpoint"

Load = Callable[[str, str], Source]
"""Reads the rule file that a path in a folder names."""


def read_rules(path: str | os.PathLike[str], *, special: bool = True) -> Source:
    """Read a rule file; where `special` is false, as for one that a recipe names, a pipe or a device is refused.

    Raises:
        StatexError: SX222 if it cannot be read or is not text.
    """
    name = os.fspath(path)
    if name.startswith(LIBRARY):
        fail(codes.RULES_UNREADABLE, f"there is no `{name}`: this version of statex comes without rule files")
    if name.lower().endswith((".yaml", ".yml")):
        fail(
            codes.RULES_UNREADABLE,
            f"`{Path(name).as_posix()}` is named like a recipe, and rules are expected",
            help=f"a recipe is carried out by `statex run`; the names of rule files end in {ENDING}",
        )
    if not special and os.path.exists(name) and not os.path.isfile(name) and not os.path.isdir(name):
        fail(codes.RULES_UNREADABLE, f"`{Path(name).as_posix()}` is not a file")
    return _read(Path(path), codes.RULES_UNREADABLE)


def read_include(folder: str, path: str) -> Source:
    """Read the rule file that a path names, at or below a folder.

    Raises:
        StatexError: SX215 if it cannot be read, is not text, or lies elsewhere.
    """
    return includes_from(())(folder, path)


def includes_from(further: Sequence[str | os.PathLike[str]]) -> Load:
    """Return what reads included files: relative to the folder of the including file, or else to one of `further`.

    The file has to lie at or below one of these folders, links followed.
    """
    more = [os.fspath(one) for one in further]

    def load(folder: str, path: str) -> Source:
        _check_name(path)
        found = [os.path.normpath(os.path.join(one, path)) for one in (folder, *more)]
        first = next((one for one in found if os.path.lexists(one)), found[0])
        return _read_below([folder, *more], first, path)

    return load


def _check_name(path: str) -> None:
    if path.startswith(LIBRARY):
        fail(codes.INCLUDE_UNREADABLE, f"there is no `{path}`: this version of statex comes without rule files")
    if not path.endswith(ENDING):
        fail(codes.INCLUDE_UNREADABLE, f"`{path}` does not end in {ENDING}, and only rule files can be included")
    if path.startswith(("/", "\\")) or os.path.isabs(path):
        fail(
            codes.INCLUDE_UNREADABLE,
            "an include path is relative to the file it is in, not absolute",
            help=f"include '{path.replace(chr(92), '/').rpartition('/')[2]}'",
        )


def _read_below(folders: Sequence[str], found: str, path: str) -> Source:
    real = os.path.realpath(found)
    if not any(os.path.commonpath([base, real]) == base for base in map(os.path.realpath, folders)):
        # A stranger's rule file could else show, in a message, what is in any file.
        fail(
            codes.INCLUDE_UNREADABLE,
            f"`{path}` leads out of the folder of the file that includes it",
            help="move it below that folder, or allow the folder it is in: `--include-path DIR`",
        )
    if os.path.exists(found) and not os.path.isfile(found):
        # Whoever runs a program may name a pipe; a stranger's rule file may not, which would wait for it.
        fail(codes.INCLUDE_UNREADABLE, f"`{Path(found).as_posix()}` is not a file")
    return _read(Path(found), codes.INCLUDE_UNREADABLE)


def _read(path: Path, code: Code) -> Source:
    name = path.as_posix()
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        fail(code, f"`{name}` cannot be read: {error.strerror or error}", help=_meant(path))
    return rules_of(name, data, code)


def _meant(path: Path) -> str | tuple[str, ...]:
    """Return what was probably meant by the path of a rule file that cannot be read."""
    # Not the methods of `Path`, which raise for names that no file can have.
    if os.path.isdir(path):
        return "rule files come before the checkpoint"
    longer = path.with_name(path.name + ENDING) if path.name else path
    return f"did you mean `{longer.as_posix()}`?" if os.path.isfile(longer) else ()


def rules_of(name: str, data: bytes, code: Code = codes.RULES_UNREADABLE) -> Source:
    """Return the source of rules in bytes.

    Raises:
        StatexError: `code` if they are not text, or more than `LARGEST`.
    """
    if len(data) > LARGEST:
        fail(
            code,
            f"`{name}` is too large to be a rule file: it has more than {show_bytes(LARGEST)}",
            help="name the rule file before the checkpoint; rules can be divided among several files",
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        what, encoding = not_utf8(data, error.start)
        saved = f"save it as UTF-8: iconv -f {encoding} -t UTF-8 '{name}' > utf8{ENDING}"
        fail(code, f"`{name}` {what}", help=saved if encoding is not None else _MISPLACED)
    if "\0" in text:
        fail(code, f"`{name}` is a binary file, not text", help=_MISPLACED)
    return Source(name, text)
