"""The names of outputs: one is renamed, several are listed in journals beside them first."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from statex.checkpoint.atomic.journal import Journal, claim
from statex.checkpoint.atomic.moves import Move, OpenWays, identify
from statex.checkpoint.atomic.renames import copy_mode, rename_new, sync, sync_folders_of
from statex.checkpoint.atomic.signals import held_signals
from statex.checkpoint.atomic.staging import Staged, refusals
from statex.checkpoint.output import check_replaced
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes


def commit(staged: Sequence[Staged], run: str) -> None:
    """Give all outputs their names, or none; `run` is an identifier for journals.

    Raises:
        StatexError: SX610 if an output has appeared meanwhile that is not to be replaced, or files would be lost
            with a folder; SX612 for what the system refuses.
    """
    with held_signals():
        if len(staged) == 1 and _is_one_step(staged[0]):
            _rename(staged[0])
        elif staged:
            _rename_together(staged, run)


def _is_one_step(one: Staged) -> bool:
    return one.journal is None and not (one.is_folder and _has_entries(one.final))


def _has_entries(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _rename(one: Staged) -> None:
    with refusals(one.path):
        if one.is_folder or one.force:
            copy_mode(one.final, one.temporary)
            os.replace(one.temporary, one.final)  # an empty folder is replaced
        else:
            rename_new(one.temporary, one.final)
        one.is_handed_over = True
        sync(one.final.parent)


def _rename_together(staged: Sequence[Staged], run: str) -> None:
    journals = [_journal(one, run) for one in staged]
    moves = [_move(one) for one in staged]
    for one in staged:
        one.is_handed_over = True
    try:
        with _undone_on_failure(moves, journals):
            for one, journal in zip(staged, journals, strict=True):
                with refusals(one.path):
                    journal.note(moves)
                    sync(one.final.parent)
            for one, move in zip(staged, moves, strict=True):
                with refusals(one.path), _changes(one):
                    move.finish()
                    sync(one.final.parent)
        # All have their names. What is left a later command removes, as the journals stay then.
        with suppress(OSError):
            tidy(moves, journals)
    finally:
        for journal in journals:
            journal.close()


def _journal(one: Staged, run: str) -> Journal:
    if one.journal is None:
        with refusals(one.path):
            one.journal = claim(one.final, one.temporary, run)
    return one.journal


def _move(one: Staged) -> Move:
    """Return the rename of an output, after a last look at what it replaces."""
    with refusals(one.path):
        previous = identify(one.final)
        if previous is not None:
            _check_replaceable(one)
            copy_mode(one.final, one.temporary)
        return Move(one.final, one.temporary, one.is_folder, one.identity, previous)


def _check_replaceable(one: Staged) -> None:
    if one.is_folder != one.final.is_dir():
        what = "is not a folder" if one.is_folder else "is a folder"
        fail(codes.UNWRITABLE, f"`{one.path}` {what}", help="choose another name")
    if not one.is_folder and not one.force:
        raise FileExistsError(str(one.final))
    if one.is_folder and _has_entries(one.final):
        check_replaced(one.final, one.force, {entry.name for entry in one.temporary.iterdir()} | one.own)


@contextmanager
def _changes(one: Staged) -> Iterator[None]:
    """Say of an output that is to be replaced if it is not any more what it was when the renames began."""
    try:
        yield
    except FileExistsError:
        if not one.force:
            raise
        fail(codes.UNWRITABLE, f"`{one.path}` was changed by somebody else while it was being replaced")


@contextmanager
def _undone_on_failure(moves: Sequence[Move], journals: Sequence[Journal]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        # Where that fails too, the journals stay, and a later command undoes it.
        with suppress(OSError):
            undo(moves)
            tidy(moves, journals)
        raise


def undo(moves: Iterable[Move]) -> None:
    """Put back what outputs replaced, but for those that somebody else has changed.

    Raises:
        OSError: what the system says.
    """
    back = [move for move in moves if move.standing is not OpenWays.CHANGED]
    for move in back:
        move.undo()
    sync_folders_of(move.final for move in back)


def finish(moves: Iterable[Move]) -> None:
    """Give outputs their names, but for those that somebody else has changed.

    Raises:
        OSError: what the system says.
    """
    forward = [move for move in moves if move.standing in (OpenWays.BOTH, OpenWays.FORWARD)]
    for move in forward:
        move.finish()
    sync_folders_of(move.final for move in forward)


def tidy(moves: Collection[Move], journals: Iterable[Journal], *, once_more: bool = False) -> None:
    """Remove what is left under other names, and then the journals.

    Raises:
        OSError: what the system says. What cannot be removed `once_more` is left for good.
    """
    for move in moves:
        with suppress(OSError) if once_more else nullcontext():
            move.clean()
    sync_folders_of(move.final for move in moves)
    for journal in journals:
        journal.remove()
    sync_folders_of(move.final for move in moves)
