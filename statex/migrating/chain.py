"""A chain of migrations: numbered rule files, each of which makes the next layout of a state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from statex.core.source import Source
from statex.diagnostics import StatexError, diagnostic
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import migrations as codes
from statex.dsl.parts import Outside, ProgramPart
from statex.dsl.resolve import Resolved, resolve
from statex.grammar import parse, tree
from statex.grammar.rulefiles import read_include
from statex.migrating.digest import digest


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
class MigrationStep:
    """One migration: it makes layout `number` of the layout before; `down`, if it is there, undoes it.

    `digest` is that of its rules, whatever their comments and formatting.
    """

    number: int
    name: str
    parts: tuple[ProgramPart, ...]
    digest: str
    down: tuple[ProgramPart, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Chain:
    """The migrations of a state, in order: step 1 makes layout 1 of layout 0, which is what was there before it.

    Chains are equal where their steps mean the same.
    """

    label: str
    steps: tuple[MigrationStep, ...]
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
    def parts(self) -> tuple[ProgramPart, ...]:
        """The rules of all steps, in order."""
        return self.between(0, self.version)

    def between(self, before: int, after: int) -> tuple[ProgramPart, ...]:
        """Return the rules that make one layout of another: of the steps between, or of what undoes them."""
        if after < before:
            return tuple(part for step in reversed(self.steps[after:before]) for part in step.down)
        return tuple(part for step in self.steps[before:after] for part in step.parts)

    def resolved(self, before: int, after: int) -> Resolved:
        """Return what is known without a state of the rules that make one layout of another."""
        if (before, after) not in self._resolved:
            self._resolved[before, after] = resolve(self.between(before, after), self.load, Outside())
        return self._resolved[before, after]

    @cached_property
    def _resolved(self) -> dict[tuple[int, int], Resolved]:
        return {}

    def up_to(self, layout: int) -> Chain:
        """Return the chain that ends with a layout."""
        return Chain(self.label, self.steps[:layout], self.load)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters that the steps declare."""
        return tuple(dict.fromkeys(name for _, names in self.resolved(0, self.version).files for name in names))

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


def _written(parts: Iterable[ProgramPart]) -> _Written:
    return [
        (one.program.source, {"folder": one.folder, "stem": one.stem, "given": one.given, "shared": one.shared})
        for one in parts
    ]


def _from_texts(
    label: str, written: Sequence[tuple[int, str, _Written, _Written]], files: dict[tuple[str, str], Source]
) -> Chain:
    kept = Kept(dict(files))
    steps = [(number, name, _parsed(up), _parsed(down)) for number, name, up, down in written]
    return Chain(
        label, tuple(MigrationStep(number, name, up, digest(up, kept), down) for number, name, up, down in steps), kept
    )


def _parsed(written: _Written) -> tuple[ProgramPart, ...]:
    return tuple(ProgramPart(parse(source), **rest) for source, rest in written)


def chain_of(parts: Sequence[ProgramPart], label: str = "") -> Chain:
    """Return the chain of one step that carries out these rules.

    Raises:
        StatexError: SX805 for rules that need more than the state, and every error of the rules.
    """
    name = label or " + ".join(part.program.source.name for part in parts)
    kept = Kept()
    check_steps(parts, kept)
    return Chain(name, (MigrationStep(1, name, tuple(parts), digest(parts, kept)),), kept)


def check_steps(parts: Sequence[ProgramPart], load: Kept) -> None:
    """Refuse rules that are wrong whatever the state, and rules that need more than it."""
    found = resolve(parts, load, Outside())
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
