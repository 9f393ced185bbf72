"""Records of a run for its report: the files it read and wrote, and their properties."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from statex.checkpoint import entry_of
from statex.diagnostics import Diagnostic, StatexError, fail
from statex.diagnostics.codes import files as codes
from statex.dsl.resolve import Resolved
from statex.session.digests import Digests, FilePrint
from statex.session.expected import wrong
from statex.session.identity import fingerprint, relative, text_digest
from statex.session.report import VERSION, LastRun, Listed
from statex.session.request import InputSpec, OutputSpec, Request, TargetSpec
from statex.session.session import Session
from statex.session.shipping import Shipment
from statex.session.unchanged import copied_files

Prints = Mapping[Path, FilePrint]


def included(found: Resolved, request: Request) -> dict[str, str]:
    """Return the digests of the rule files that rules include, by their names."""
    return {relative(source.name, request.base): text_digest(source.text) for source in found.included}


class Records:
    """The files of a run; their digests are taken while it goes on, if anybody wants them."""

    def __init__(self, session: Session, digests: Digests) -> None:
        self._session = session
        self._request = request = session.request
        self._digests = digests
        self._outputs: dict[str, dict[Path, Path]] = {}
        """Of each output the files by the paths they will have, and where they are until then."""
        self._beside: list[OutputSpec] = []
        self._files = {
            where: _files(opened) for where, opened in zip(_places(request), session.inputs.opened, strict=True)
        }
        self._held: dict[Path, str] = {}
        """The digests of what files held that are copied with changes."""
        self._further = list(dict.fromkeys(_further(session)))
        self.wanted = request.policy.digests
        for where, given in zip(_places(request), (one for _, _, one in request.all_inputs), strict=True):
            if request.takes_digest(given):
                for path, fd in self._files[where]:
                    digests.take(path, fd)
        for path in self._further if self.wanted else ():
            digests.take(path)

    def staged(self, one: Shipment, temporary: Path) -> None:
        """Note an output that is written, and has yet to get its name; its digests are taken if anybody wants them."""
        final = Path(os.path.abspath(one.placed.path))
        files = (
            {final / name.name: name for name in sorted(temporary.iterdir())}
            if one.options.folder
            else {final: temporary}
        )
        self._outputs[one.placed.spec.label] = files
        self._held.update({o.path: sha256(o.held).hexdigest() for o in one.options.copy if o.held is not None})
        for path in files.values() if self.wanted else ():
            self._digests.take(path, named=False)

    def beside(self, one: OutputSpec, temporary: Path) -> None:
        """Note a file that is written beside an output, and has yet to get its name."""
        self._beside.append(one)
        self._outputs[one.label] = {Path(os.path.abspath(one.path)): temporary}
        if self.wanted:
            self._digests.take(temporary, named=False)

    def check_expected(self, prints: Prints) -> None:
        """Compare the digests of inputs with those that are expected.

        Raises:
            StatexError: SX633 with every input that has another one.
        """
        problems: list[Diagnostic] = []
        for where, (_, _, given) in zip(_places(self._request), self._request.all_inputs, strict=True):
            problems += wrong(given, [path for path, _ in self._files[where]], prints)
        if problems:
            raise StatexError(problems)

    def said(self, prints: Prints) -> LastRun:
        """Return what a report says of files."""
        request = self._request
        inputs: dict[str, list[Listed]] = {}
        for (name, number), (_, _, given) in zip(_places(request), request.all_inputs, strict=True):
            paths = [path for path, _ in self._files[name, number]]
            inputs.setdefault(name or "main", []).append(self._listed(given, paths, prints))
        return LastRun(
            VERSION,
            fingerprint(request),
            inputs,
            Listed("", {self._relative(path): prints.get(path) for path in self._further}),
            {one.label: [self._relative(path) for path in copied_files(request, one)] for one in request.outputs},
            included(self._session.resolved, request),
            {one.label: self._made(one, prints) for one in (*request.outputs, *self._beside)},
            0,
        )

    def check_copied(self, prints: Prints) -> None:
        """Compare the files that were copied along with what they are now.

        Raises:
            StatexError: SX609 for one that was changed meanwhile.
        """
        for one in self._request.outputs if self.wanted else ():
            written = {final.name: prints[path] for final, path in self._outputs[one.label].items()}
            for path in copied_files(self._request, one):
                copied = path.name in written
                if copied and self._held.get(path, written[path.name].sha256) != prints[path].sha256:
                    fail(codes.CHANGED, f"`{path}` was changed while it was copied", help="run again")

    def _listed(self, given: InputSpec, paths: list[Path], prints: Prints) -> Listed:
        if given.path is None:
            return Listed("", {})
        files = {self._relative(path): prints.get(path) if self.wanted else None for path in paths}
        return Listed(self._relative(given.path), files, self._relative(entry_of(given.path)))

    def _made(self, one: OutputSpec, prints: Prints) -> Listed:
        files = {self._relative(final): prints.get(path) for final, path in self._outputs[one.label].items()}
        return Listed(self._relative(Path(one.path)), files)

    def _relative(self, path: Path) -> str:
        return relative(path, self._request.base)


def _places(request: Request) -> list[tuple[str, int]]:
    return [(name, number) for name, number, _ in request.all_inputs]


def _files(opened: Any) -> list[tuple[Path, int | None]]:
    return [(file.path, file.fd) for file in opened.reader.files] if opened.reader is not None else []


def _further(session: Session) -> Iterator[Path]:
    """Yield the files besides inputs and rules that a result depends on."""
    request = session.request
    yield from request.read
    for target in request.named_targets:
        yield from _target_files(target)
    for one in request.outputs:
        yield from copied_files(request, one)


def _target_files(target: TargetSpec) -> Iterator[Path]:
    if target.like_path is not None:
        from statex.checkpoint import open_checkpoint

        with open_checkpoint(target.like_path) as reader:
            yield from (file.path for file in reader.files)
    elif target.is_code and not target.held_back:
        module = sys.modules.get(str(target.model).partition(":")[0])
        file = getattr(module, "__file__", None)
        if file is not None:
            yield Path(file)
