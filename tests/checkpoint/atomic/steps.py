"""Runs with several outputs, and a system that ends them (or fails) at any of its calls."""

from __future__ import annotations

import errno
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from statex.checkpoint.atomic import renames
from statex.checkpoint.atomic.commit import _move
from statex.checkpoint.atomic.moves import Move
from statex.checkpoint.atomic.transaction import Transaction

CALLS = ("open", "write", "fsync", "link", "rename", "replace", "unlink", "mkdir", "rmdir", "chmod")


class Killed(BaseException):
    """Stands for the end of the process: from then on no call does anything."""


@dataclass
class System:
    """The system below a run: each call that changes files is counted, and seen before it is made."""

    before: Callable[[int], None] = lambda number: None
    links: bool = True
    exchanges: bool = True
    syncs: bool = False
    count: int = 0

    @contextmanager
    def installed(self) -> Iterator[System]:
        """Be the system inside the block."""
        calls = {name: getattr(os, name) for name in CALLS}
        if not self.syncs:
            # Nobody takes the power here, and the disk would take its time.
            calls["fsync"] = lambda fd: None
        if not self.links:
            calls["link"] = _refused
        renameat2 = renames.renameat2 if self.exchanges else lambda *names: errno.ENOSYS
        with (
            mock.patch.multiple(os, **{name: self._counted(call) for name, call in calls.items()}),
            mock.patch.object(renames, "renameat2", self._counted(renameat2)),
        ):
            yield self

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            self.before(self.count - 1)
            return call(*arguments, **named)

        return counted


def _refused(*names: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def dies_at(step: int) -> Callable[[int], None]:
    """Return what ends the process before a call; whatever it would do after that does not happen either."""

    def before(number: int) -> None:
        if number >= step:
            raise Killed

    return before


def fails_at(step: int, calls: int = 1) -> Callable[[int], None]:
    """Return what makes some calls fail."""

    def before(number: int) -> None:
        if step <= number < step + calls:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return before


def in_child(work: Callable[[], object]) -> int:
    """Run something in a process of its own; return how that ended, as `os.waitpid` has it."""
    return os.waitpid(started(work), 0)[1]


def started(work: Callable[[], object]) -> int:
    """Start something in a process of its own; return its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of this process hold no locks of ours
        child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def kill_at(step: int) -> Callable[[int], None]:
    """Return what kills the process before a call."""

    def before(number: int) -> None:
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return before


@dataclass(frozen=True)
class Out:
    """An output: a name, `/` at the end for a folder, `!` before one that replaces something."""

    written: str

    @property
    def name(self) -> str:
        """Its path in the folder of the run."""
        return self.written.strip("!/")

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.written.endswith("/")

    @property
    def is_replaced(self) -> bool:
        """Whether there is something of its name before."""
        return self.written.startswith("!")


FILES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


class Case:
    """Outputs of one run, in a folder."""

    def __init__(self, folder: Path, written: str) -> None:
        self.folder = folder
        self.outs = [Out(one) for one in written.split()]
        for out in self.outs:
            (folder / out.name).parent.mkdir(exist_ok=True, parents=True)
            if out.is_replaced:
                self._write(folder / out.name, out, "old")
        self.before = self.listing()

    @property
    def paths(self) -> list[Path]:
        """The outputs."""
        return [self.folder / out.name for out in self.outs]

    def run(self) -> None:
        """Write all outputs and give them their names."""
        with Transaction() as outputs:
            self.stage(outputs)
            outputs.commit()

    def stage(self, outputs: Transaction) -> None:
        """Write all outputs."""
        for out in self.outs:
            if out.is_folder:
                outputs.stage_folder(
                    self.folder / out.name, lambda path, out=out: _fill(path, out, "new"), force=out.is_replaced
                )
            else:
                outputs.stage_bytes(self.folder / out.name, _data(out, "new"), force=out.is_replaced)

    def _write(self, path: Path, out: Out, age: str) -> None:
        if out.is_folder:
            path.mkdir()
            _fill(path, out, age)
        else:
            path.write_bytes(_data(out, age))

    def ages(self) -> list[str]:
        """Return `old`, `new` or `none` for each output; a part of one is none of these."""
        return [_age(self.folder / out.name, out) for out in self.outs]

    def check_whole(self, *, may_be_away: bool = False) -> None:
        """Assert that each output is the old or the new one, whole."""
        for out, age in zip(self.outs, self.ages(), strict=True):
            wanted = {"new", "old"} if out.is_replaced else {"new", "none"}
            assert age in wanted | ({"none"} if may_be_away else set()), (out, age, self.listing())

    def check_settled(self) -> str:
        """Assert that all are old or all are new and nothing is left beside them; return which."""
        ages = {"old" if age == "none" else age for age in self.ages()}
        assert len(ages) == 1, self.ages()
        self.check_whole()
        names = {path for out in self.outs for path in (out.name, *(f"{out.name}/{file}" for file in FILES))}
        assert set(self.listing()) <= names | set(self.before), self.listing()
        return ages.pop()

    def listing(self) -> list[str]:
        """Return all that is in the folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


def _data(out: Out, age: str) -> bytes:
    return f"{out.name} {age} ".encode() * (40 if age == "old" else 30)


def _fill(folder: Path, out: Out, age: str) -> None:
    for number, name in enumerate(FILES if age == "new" else FILES[:1]):
        fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o666)
        os.write(fd, _data(out, age) * (number + 1))
        os.fsync(fd)
        os.close(fd)


def _age(path: Path, out: Out) -> str:
    if not os.path.lexists(path):
        return "none"
    if out.is_folder:
        found = {entry.name: entry.read_bytes() for entry in path.iterdir()}
        for age, names in (("old", FILES[:1]), ("new", FILES)):
            if found == {name: _data(out, age) * (number + 1) for number, name in enumerate(names)}:
                return age
        return f"half: {sorted(found)}"
    return next((age for age in ("old", "new") if path.read_bytes() == _data(out, age)), "half")


def listed(outputs: Transaction, *, close: bool = True) -> list[Move]:
    """Write the journals of a run as they are right before its renames, and end it there."""
    found = [_move(one) for one in outputs.staged]
    for one in outputs.staged:
        assert one.journal is not None
        one.journal.note(found)
        if close:
            one.journal.close()
        one.is_handed_over = True
    return found
