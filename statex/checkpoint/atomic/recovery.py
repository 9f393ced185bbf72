"""Recovers from interrupted runs: finishes a run if all its outputs are there, otherwise undoes it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from statex.checkpoint.atomic.commit import finish, tidy, undo
from statex.checkpoint.atomic.entries import JournalEntry, refuse
from statex.checkpoint.atomic.journal import Busy, Journal, peek, take
from statex.checkpoint.atomic.moves import Move, OpenWays
from statex.checkpoint.atomic.names import journal_of, journals_beside
from statex.checkpoint.atomic.renames import remove, sync
from statex.checkpoint.atomic.signals import held_signals
from statex.core.record import record
from statex.diagnostics import Diagnostic, StatexError, diagnostic, fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.codes import lints


@record
class Recovered:
    """What became of a run that was interrupted.

    `finished` says whether its outputs are in place now, or what was there before. `changed` are those that somebody
    else has changed since: they were left alone.
    """

    finished: bool
    outputs: tuple[str, ...]
    changed: tuple[str, ...] = ()

    def diagnostic(self) -> Diagnostic:
        """Return the warning that says so (SX907)."""
        done = "was finished: its outputs are in place" if self.finished else "was undone: its outputs are as before it"
        return diagnostic(
            lints.RECOVERED,
            f"a run that was interrupted {done}",
            rows=[(f"  {output}",) for output in self.outputs],
            notes=[f"`{path}` has been changed since and was left as it is" for path in self.changed],
        )


def recover(paths: Iterable[str | os.PathLike[str]]) -> tuple[Recovered, ...]:
    """Finish or undo interrupted runs that had any of these as an output, or the folder that one of them is in.

    Journals of runs that are alive are left alone.

    Raises:
        StatexError: SX622 for a journal that cannot be followed, SX623 where another output of the run is out of
            reach; what was done before is said with it.
    """
    done: list[Recovered] = []
    failures: list[Diagnostic] = []
    for path in dict.fromkeys(journals_beside(paths)):
        if os.path.lexists(path):
            try:
                done += _recover(path)
            except StatexError as error:
                failures += error.diagnostics
    if failures:
        raise StatexError([*failures, *(one.diagnostic() for one in done)])
    return tuple(done)


def _recover(path: Path) -> list[Recovered]:
    with ExitStack() as closed:
        try:
            taken = _take_all(path, closed)
        except Busy:
            return []
        if path not in taken:
            return []  # another process has settled it
        try:
            with held_signals():
                return _settle(taken[path], taken)
        except OSError as error:
            refuse(path, f"its run can be neither finished nor undone: {error.strerror or error}")


def _take_all(path: Path, closed: ExitStack) -> Mapping[Path, Journal]:
    """Return the journals of all outputs of a run, locked; those that are gone are not in it."""
    while True:
        seen = peek(path)
        listed = {journal_of(move.final) for move in seen.moves} if seen is not None else set()
        taken: dict[Path, Journal] = {}
        # All take them in one order, so that of several processes one gets them all.
        for name in sorted({path, *listed}):
            journal = take(name)
            if journal is not None:
                closed.callback(journal.close)
                taken[name] = journal
        if path not in taken or taken[path].entry == seen:
            return taken
        closed.pop_all().close()


def _settle(own: Journal, taken: Mapping[Path, Journal]) -> list[Recovered]:
    entry = own.entry
    if entry is None:
        own.remove()
        return []
    if not entry.moves:
        return [Recovered(False, _forget([own]))]
    ours = {move: j for move in entry.moves if (j := taken.get(journal_of(move.final))) and _agree(entry, j, move)}
    standings = {move: move.standing for move in ours}
    forward = _leads_forward(entry, standings)
    (finish if forward else undo)(ours)
    tidy(ours, ours.values(), once_more=True)
    begun = [j for j in taken.values() if j.entry is not None and j.entry.run == entry.run and not j.entry.moves]
    changed = tuple(str(move.final) for move, standing in standings.items() if standing is OpenWays.CHANGED)
    settled = (str(move.final) for move, standing in standings.items() if standing is not OpenWays.CHANGED)
    return [Recovered(forward, (*settled, *_forget(begun)), changed)]


def _agree(entry: JournalEntry, journal: Journal, move: Move) -> bool:
    """Say whether the journal of another output tells of the same run: else it is not ours to be touched."""
    return journal.entry == JournalEntry(entry.run, move.final, move.temporary, entry.moves)


def _leads_forward(entry: JournalEntry, ours: Mapping[Move, OpenWays]) -> bool:
    """Say whether a run is finished; it is undone if an output has been changed, or is not ours and not in place."""
    if OpenWays.FORWARD in ours.values():
        return True  # what is replaced goes only when all outputs have their names
    others = [move for move in entry.moves if move not in ours]
    for move in others:
        if not move.final.parent.is_dir():
            fail(
                codes.OUTPUT_AWAY,
                f"`{entry.final}` is of a run that was interrupted, and another output of it is out of reach: "
                f"`{move.final}`",
                help=f"mount what that is on; if it is gone for good, and `{entry.final}` is as you want it: "
                f"rm '{journal_of(entry.final)}'",
            )
    return set(ours.values()) == {OpenWays.BOTH} and all(move.is_in_place for move in others)


def _forget(journals: Iterable[Journal]) -> tuple[str, ...]:
    """Remove what was written of outputs whose run came no further; return those."""
    forgotten = []
    for journal in journals:
        if journal.entry is not None:
            # What cannot be removed is left for good: its name says that it may go.
            with suppress(OSError):
                remove(journal.entry.temporary)
            journal.remove()
            sync(journal.path.parent)
            forgotten.append(str(journal.entry.final))
    return tuple(forgotten)
