"""What is written beside an output to undo it: the inverse of its rules, and the tensors that are lost."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from statex.checkpoint import check_output, format_of_name, stage_checkpoint
from statex.checkpoint.atomic.staging import write_bytes
from statex.checkpoint.atomic.transaction import Transaction
from statex.checkpoint.formats.safetensors.format import SAFETENSORS
from statex.core.paths import as_list
from statex.core.progress import Watch
from statex.core.source import ENDING
from statex.core.text_file import as_utf8
from statex.inverse.program import InverseRules
from statex.session.inverting import inverted, storing
from statex.session.placing import Placed, place
from statex.session.request import OutputSpec
from statex.session.session import Session
from statex.session.shipping import Shipment, shipments
from statex.session.sources import folder_of, is_set

_FALLBACK = "restored.pth"
"""What the command that undoes a run makes of a state that was in memory."""


@dataclass(frozen=True)
class Reversal:
    """The rules that undo a run, on their way to a file beside its output, and the tensors that they take from another.

    `command` carries them out. `label` is that of the output. `is_noted` says whether the output carries the version
    of a layout, which no rules change.
    """

    inverse: InverseRules
    path: Path
    command: str
    lost: Shipment | None = None
    force: bool = False
    label: str = ""
    is_noted: bool = False

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are written."""
        return (self.path, *([self.lost.placed.path] if self.lost is not None else []))

    @property
    def sizes(self) -> Mapping[Path, int]:
        """The bytes of the files that are large."""
        return {self.lost.placed.path: self.lost.layout.nbytes} if self.lost is not None else {}

    def stage(
        self, outputs: Transaction, watch: Watch, verify: Callable[[Shipment, Path], None]
    ) -> Iterator[tuple[OutputSpec, Path]]:
        """Write the files under temporary names; yield each with where it is until it has its own."""
        if self.lost is not None:
            lost = self.lost
            options = replace(lost.options, watch=watch)
            path = lost.placed.path
            staged = stage_checkpoint(outputs, path, lost.layout, options, lambda written: verify(lost, written))
            yield OutputSpec(path, _lost_of(self.label)), staged.temporary
        # What cannot be written as text is refused like what the disk refuses.
        staged = outputs.stage_file(self.path, lambda name: write_bytes(name, self._data()), force=self.force)
        yield OutputSpec(self.path, _back_of(self.label)), staged.temporary

    def _data(self) -> bytes:
        # The name of a file may have line breaks, which would end the remark, and may not be text at all.
        named = self.command.encode("utf-8", "backslashreplace").decode()
        remark = "".join(f"# {line}\n" for line in named.splitlines())
        return as_utf8(f"{remark}\n{self.inverse.text}")


def _back_of(label: str) -> str:
    """Return how a report calls the rules that undo an output; no output has such a name."""
    return f"{label}.back"


def _lost_of(label: str) -> str:
    return f"{label}.lost"


@contextmanager
def reversal(
    session: Session, outputs: Sequence[Placed], is_own: Callable[[OutputSpec], bool]
) -> Iterator[Reversal | None]:
    """Return what undoes a run that shall be `reversible`; the files that it reads are open until the context ends.

    `is_own` says of a file whether the last run wrote it, so that it may be replaced.

    Raises:
        StatexError: SX333 for entries that do not come back, 6xx for files that cannot be written.
    """
    request = session.request
    if not request.policy.reversible:
        yield None
        return
    (placed,) = [one for one in outputs if not one.spec.optimizer]
    assert not placed.spec.keep
    rules, lost = _beside(placed.path, f"back{ENDING}"), _beside(placed.path, f"lost{SAFETENSORS.suffixes[0]}")
    label, policy = placed.spec.label, request.policy
    specs = [OutputSpec(rules, _back_of(label)), OutputSpec(lost, _lost_of(label))]
    forced, lost_forced = (policy.replace == "always" or is_own(one) for one in specs)
    inverse = inverted(session, keep=True, remedies=("without `--reversible`, no inverse is written",))
    command = _command(session, placed, rules, inverse, lost)
    found = Reversal(inverse, rules, command, force=forced, label=label, is_noted=request.stamp is not None)
    if os.path.lexists(rules.parent) or not policy.make_folders:
        check_output(rules, force=forced)
        if inverse.stored:
            check_output(lost, force=lost_forced)
    if not inverse.stored:
        yield found
        return
    with Session(storing(session, inverse, lost, force=lost_forced)) as other:
        output = replace(place(other.request.outputs[0], None), force=lost_forced)
        (shipment,) = shipments(other, [output], other.request.policy)
        yield replace(found, lost=shipment)


def _beside(path: Path, ending: str) -> Path:
    """Return the path of a file that belongs to an output: `out.back.sx` for `out.pth` and for the folder `out`."""
    return path.parent / f"{path.stem if path.suffix else path.name}.{ending}"


def _command(session: Session, placed: Placed, rules: Path, inverse: InverseRules, lost: Path) -> str:
    """Return the command that undoes a run, in the folder of its output."""
    request = session.request
    back, *format = _as_it_was(session, placed)
    words = ["statex", "apply", *map(_here, (rules.name, placed.path.name, back)), *format]
    if inverse.stored:
        words += ["--in", f"{inverse.input}={lost.name}"]
    for one in request.outputs:
        if one.optimizer:
            old, new = request.optimizers[one.optimizer].path, os.path.relpath(one.path, placed.path.parent)
            words += ["--optimizer", f"{new}={old.name if old is not None else new}"]
    if request.state.root is not None:
        root = request.state.root
        words += ["--root", root if isinstance(root, str) else as_list(tuple(root))]
    return shlex.join(words)


def _as_it_was(session: Session, placed: Placed) -> list[str]:
    """Return how the checkpoint is called, and the option for its format if that does not follow from the names."""
    source, format = session.request.state.path, session.inputs.main.format
    if source is None:
        return [_FALLBACK]
    wanted = format if format.is_written else format.successor
    if is_set(source):
        name = f"{Path(os.path.abspath(folder_of(source))).name}/"
        return [name] if placed.format in (None, wanted) else [name, "--format", wanted.name]
    name = source.name if format.is_written else f"{source.stem}{wanted.suffixes[0]}"
    return [name] if format_of_name(name) is wanted else [name, "--format", wanted.name]


def _here(name: str) -> str:
    """Return the name of a file as an argument, which is not an option."""
    return f"./{name}" if name.startswith("-") else name
