"""A chain of migrations: numbered rule files, each of which makes the next layout of a state."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from statex.diagnostics import StatexError, diagnostic, fail
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import migrations as codes
from statex.dsl.check import Checked, check_program
from statex.dsl.parts import Outside, Part, stem_of
from statex.grammar import parse, tree
from statex.migrating.digest import digest
from statex.rulefiles import ENDING, read_include, read_rules
from statex.source import Source

DOWN = f".down{ENDING}"
_NAME = re.compile(r"(\d{4})_(\w+)(\.down)?\.sx", re.ASCII)


@dataclass(frozen=True)
class Kept:
    """Reads the files that rules include, and keeps what was read: a chain that is stored somewhere needs no files."""

    files: dict[tuple[str, str], Source] = field(default_factory=dict)

    def __call__(self, folder: str, path: str) -> Source:
        """Return the file that a path in a folder names, as it was when it was first read.

        Raises:
            StatexError: SX215 if it cannot be read, is not text, or lies elsewhere.
        """
        if (folder, path) not in self.files:
            self.files[folder, path] = read_include(folder, path)
        return self.files[folder, path]


@dataclass(frozen=True)
class Step:
    """One migration: it makes layout `number` of the layout before; `down`, if it is there, undoes it.

    `digest` is that of its rules, whatever their comments and formatting.
    """

    number: int
    name: str
    parts: tuple[Part, ...]
    digest: str
    down: tuple[Part, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Chain:
    """The migrations of a state, in order: step 1 makes layout 1 of layout 0, which is what was there before it.

    Chains are equal where their steps mean the same.
    """

    label: str
    steps: tuple[Step, ...]
    load: Kept

    @property
    def version(self) -> int:
        """The layout that the last step makes."""
        return len(self.steps)

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of the steps, in order."""
        return tuple(step.digest for step in self.steps)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The rules of all steps, in order."""
        return self.between(0, self.version)

    def between(self, before: int, after: int) -> tuple[Part, ...]:
        """Return the rules that make one layout of an earlier one."""
        return tuple(part for step in self.steps[before:after] for part in step.parts)

    @cached_property
    def checked(self) -> tuple[Checked, ...]:
        """What is known without a state of the rules that follow each layout."""
        nothing = Outside()
        return tuple(
            check_program(self.between(layout, self.version), self.load, nothing) for layout in range(self.version + 1)
        )

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters that the steps declare."""
        return tuple(dict.fromkeys(name for _, names in self.checked[0].files for name in names))

    def __len__(self) -> int:
        return len(self.steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chain) and self.digests == other.digests

    def __hash__(self) -> int:
        return hash(self.digests)

    def __repr__(self) -> str:
        return f"<statex.Chain {self.label}: {counted(self.version, 'step')}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # The texts are kept and not the trees, whose form is that of this version of statex.
        written = [(s.number, s.name, _written(s.parts), _written(s.down)) for s in self.steps]
        return _from_texts, (self.label, written, self.load.files)

    def __deepcopy__(self, memo: object) -> Chain:
        return self


_Written = Sequence[tuple[Source, Mapping[str, Any]]]


def _written(parts: Iterable[Part]) -> _Written:
    return [
        (one.program.source, {"folder": one.folder, "stem": one.stem, "given": one.given, "shared": one.shared})
        for one in parts
    ]


def _from_texts(
    label: str, written: Sequence[tuple[int, str, _Written, _Written]], files: dict[tuple[str, str], Source]
) -> Chain:
    kept = Kept(dict(files))
    steps = [(number, name, _parsed(up), _parsed(down)) for number, name, up, down in written]
    return Chain(label, tuple(Step(number, name, up, digest(up, kept), down) for number, name, up, down in steps), kept)


def _parsed(written: _Written) -> tuple[Part, ...]:
    return tuple(Part(parse(source), **rest) for source, rest in written)


def chain_of(parts: Sequence[Part], label: str = "") -> Chain:
    """Return the chain of one step that carries out these rules.

    Raises:
        StatexError: SX805 for rules that need more than the state, and every error of the rules.
    """
    name = label or " + ".join(part.program.source.name for part in parts)
    kept = Kept()
    _check(parts, kept)
    return Chain(name, (Step(1, name, tuple(parts), digest(parts, kept)),), kept)


def read_chain(folder: str | os.PathLike[str]) -> Chain:
    """Read the migrations of a folder: `0001_rename_head.sx`, `0002_fuse_qkv.sx`, ….

    Raises:
        StatexError: SX801 for a folder that cannot be read or holds none, SX802 for a wrong name, SX803 for a gap,
            SX804 for two steps of one number, SX805 for a step that needs more than the state, and every error of the
            rules.
    """
    path = Path(folder)
    found = _names(path)
    ups = {name: number for name, number in found.items() if not name.endswith(DOWN)}
    _check_numbers(path, ups)
    _check_downs(path, ups, found)
    kept = Kept()
    steps = []
    for name, number in sorted(ups.items(), key=lambda one: one[1]):
        down = name.removesuffix(ENDING) + DOWN
        steps.append((number, name, _read(path / name), _read(path / down) if down in found else ()))
    _check([part for _, _, up, _ in steps for part in up], kept)
    for _, _, _, down_parts in steps:
        _check(down_parts, kept)
    return Chain(
        path.as_posix(),
        tuple(Step(number, name, up, digest(up, kept), down) for number, name, up, down in steps),
        kept,
    )


def _names(folder: Path) -> dict[str, int]:
    """Return the rule files of a folder and the numbers they begin with."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(ENDING))
    except OSError as error:
        fail(codes.CHAIN_UNREADABLE, f"the folder `{folder.as_posix()}` cannot be read: {error.strerror or error}")
    if not names:
        fail(
            codes.CHAIN_UNREADABLE,
            f"the folder `{folder.as_posix()}` holds no migrations",
            help="a chain begins with a file such as 0001_rename_head.sx",
        )
    found = {name: _NAME.fullmatch(name) for name in names}
    wrong = [name for name, match in found.items() if match is None or not int(match[1])]
    if wrong:
        problems = [
            diagnostic(
                codes.STEP_NAME,
                f"`{(folder / name).as_posix()}` is not named like a migration",
                help=f"call it {_next(found)}_{re.sub(r'[^0-9A-Za-z]+', '_', name.removesuffix(ENDING)).strip('_')}.sx,"
                " or put it into a folder below if steps include it",
            )
            for name in wrong
        ]
        raise StatexError(problems)
    return {name: int(match[1]) for name, match in found.items() if match is not None}


def _next(found: Mapping[str, re.Match[str] | None]) -> str:
    return f"{max((int(match[1]) for match in found.values() if match is not None), default=0) + 1:04}"


def _check_numbers(folder: Path, ups: Mapping[str, int]) -> None:
    problems = []
    by_number: dict[int, list[str]] = {}
    for name, number in ups.items():
        by_number.setdefault(number, []).append(name)
    for names in by_number.values():
        if len(names) > 1:
            problems.append(
                diagnostic(
                    codes.CHAIN_FORK,
                    f"{' and '.join(f'`{name}`' for name in names)} have one number in `{folder.as_posix()}`",
                    help=f"rename the later one: {max(by_number) + 1:04}{names[-1][4:]}",
                )
            )
    missing = [number for number in range(1, max(by_number, default=0)) if number not in by_number]
    if missing:
        problems.append(
            diagnostic(
                codes.CHAIN_GAP,
                f"the chain in `{folder.as_posix()}` has no step {', '.join(f'{one:04}' for one in missing)}",
                notes=[f"its last step is {max(by_number):04}"],
            )
        )
    if problems:
        raise StatexError(problems)


def _check_downs(folder: Path, ups: Mapping[str, int], found: Mapping[str, int]) -> None:
    for name in found:
        up = name.removesuffix(DOWN) + ENDING
        if name.endswith(DOWN) and up not in ups:
            fail(codes.STEP_NAME, f"`{(folder / name).as_posix()}` undoes `{up}`, and there is no such step")


def _read(path: Path) -> tuple[Part, ...]:
    source = read_rules(path)
    return (Part(parse(source), path.parent.as_posix(), stem_of(source.name)),)


def _check(parts: Sequence[Part], load: Kept) -> None:
    """Refuse rules that are wrong whatever the state, and rules that need more than it."""
    found = check_program(parts, load, Outside())
    roots = [one for part in parts for one in part.program.statements if isinstance(one, tree.Root)]
    more = [
        diagnostic(
            codes.STEP_NEEDS_MORE,
            f"a migration knows the state alone, and this asks for {what}",
            one.span,
        )
        for nodes, what in ((found.inputs, "a further checkpoint"), (roots, "a place in a file"))
        for one in nodes
    ]
    if found.diagnostics or more:
        raise StatexError([*found.diagnostics, *more])
