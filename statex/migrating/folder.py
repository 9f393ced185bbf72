"""Chains of migrations as folders: numbered rule files, each with what undoes it, and the name of the next one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from statex.core.source import ENDING
from statex.diagnostics import StatexError, diagnostic, fail
from statex.diagnostics.codes import migrations as codes
from statex.dsl.parts import ProgramPart, stem_of
from statex.grammar import parse
from statex.grammar.rulefiles import read_rules
from statex.migrating.chain import Chain, Kept, MigrationStep, check_steps
from statex.migrating.digest import digest

DOWN = f".down{ENDING}"
_NAME = re.compile(r"(\d{4})_(\w+)(\.down)?\.sx", re.ASCII)


def read_chain(folder: str | os.PathLike[str]) -> Chain:
    """Read the migrations of a folder: `0001_rename_head.sx`, `0002_fuse_qkv.sx`, ….

    Raises:
        StatexError: SX801 for a folder that cannot be read or holds none, SX802 for a wrong name, SX803 for a gap,
            SX804 for two steps of one number, SX805 for a step that needs more than the state, and every error of the
            rules.
    """
    path = Path(folder)
    found = _numbered(path)
    if not found:
        fail(
            codes.CHAIN_UNREADABLE,
            f"the folder `{path.as_posix()}` holds no migrations",
            help="a chain begins with a file such as 0001_rename_head.sx",
        )
    ups = {name: number for name, number in found.items() if not name.endswith(DOWN)}
    _check_numbers(path, ups)
    _check_downs(path, ups, found)
    kept = Kept()
    steps = []
    for name, number in sorted(ups.items(), key=lambda one: one[1]):
        down = down_of(name)
        steps.append((number, name, _read(path / name), _read(path / down) if down in found else ()))
    check_steps([part for _, _, up, _ in steps for part in up], kept)
    for _, _, _, down_parts in steps:
        check_steps(down_parts, kept)
    return Chain(
        path.as_posix(),
        tuple(MigrationStep(number, name, up, digest(up, kept), down) for number, name, up, down in steps),
        kept,
    )


def down_of(name: str) -> str:
    """Return the name of the file that undoes a step."""
    return name.removesuffix(ENDING) + DOWN


def next_step(folder: Path, title: str) -> Path:
    """Return the path of the step that comes next in a folder, named after a title; the folder may be missing.

    Raises:
        StatexError: SX801 to SX804 for a folder that is not a chain.
    """
    found = _numbered(folder) if os.path.lexists(folder) else {}
    _check_numbers(folder, {name: number for name, number in found.items() if not name.endswith(DOWN)})
    return folder / f"{max(found.values(), default=0) + 1:04}_{name_of(title)}{ENDING}"


def name_of(title: str) -> str:
    """Return what a step with a title is called in the name of its file: `fuse_qkv` for `fuse qkv`."""
    return re.sub(r"[^0-9A-Za-z]+", "_", title.removesuffix(ENDING)).strip("_")


def _numbered(folder: Path) -> dict[str, int]:
    """Return the rule files of a folder and the numbers they begin with."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(ENDING))
    except OSError as error:
        fail(codes.CHAIN_UNREADABLE, f"the folder `{folder.as_posix()}` cannot be read: {error.strerror or error}")
    found = {name: _NAME.fullmatch(name) for name in names}
    wrong = [name for name, match in found.items() if match is None or not int(match[1])]
    known = {name: int(match[1]) for name, match in found.items() if match is not None}
    if wrong:
        following = max(known.values(), default=0) + 1
        problems = [
            diagnostic(
                codes.STEP_NAME,
                f"`{(folder / name).as_posix()}` is not named like a migration",
                help=f"call it {following:04}_{name_of(name)}.sx, or put it into a folder below if steps include it",
            )
            for name in wrong
        ]
        raise StatexError(problems)
    return known


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


def _read(path: Path) -> tuple[ProgramPart, ...]:
    source = read_rules(path)
    # Values that are for the file of a step alone are for what undoes it as well.
    stem = stem_of(source.name.removesuffix(DOWN))
    return (ProgramPart(parse(source), path.parent.as_posix(), stem),)
