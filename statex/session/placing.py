"""The places of outputs: files or folders, their formats, and conflicts; all checked before work begins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from statex.checkpoint import (
    OF_SETS,
    FileNames,
    Format,
    OtherFile,
    check_output,
    format_for,
    format_of_name,
    is_stem,
    known_format,
    names_in,
    names_of,
    names_with,
    never_copied,
    other_files,
)
from statex.core.source import Span
from statex.diagnostics import Diagnostic, Note, StatexError, diagnostic, fail
from statex.diagnostics.codes import files as codes
from statex.session.report import is_report
from statex.session.request import OutputSpec, Request
from statex.session.sources import folder_of, is_set, names_read

_SHARD = 5_000_000_000


@dataclass(frozen=True)
class Placed:
    """An output and how it is to be written.

    `format` is `None` if it is that of the input, whose files have the names `read`. `copy` are files that are copied
    along into a folder, `left` the names of what stays behind. `force` says that what is there may be replaced, `own`
    are the names of the files there that the last run wrote.
    """

    spec: OutputSpec
    path: Path
    folder: bool
    format: Format | None
    shard_size: int | None
    copy: tuple[OtherFile, ...]
    left: tuple[str, ...]
    read: FileNames | None = None
    force: bool = False
    own: frozenset[str] = frozenset()

    def names(self, input_format: Format) -> FileNames | None:
        """Return how its files are called, if it is a folder that has such names, for the format that the input has."""
        format = self.format or input_format.successor
        if not self.folder or not format.has_sets:
            return None
        if self.spec.stem is not None:
            return names_with(self.spec.stem, format)
        return names_in(format, self.read, format != input_format)


def place(spec: OutputSpec, source: Path | None) -> Placed:
    """Return how an output is to be written; `source` is the checkpoint that is converted, if it is a file or folder.

    Raises:
        StatexError: SX613 for a format that cannot be told, SX618 for files that would be copied into a file, SX645 for
            a stem that files cannot have.
    """
    format = known_format(spec.format) if spec.format is not None else None
    for given, what in ((spec.shard_size, "shard size"), (spec.stem, "stem")):
        if format is not None and format.is_folder and given is not None:
            fail(codes.UNKNOWN_FORMAT, f"a {format.title} folder takes no {what}", spec.span)
    folder = _is_folder(spec, source, format)
    if folder and format is not None and not (format.has_sets or format.is_folder):
        fail(codes.UNKNOWN_FORMAT, f"{format.title} is one file, and the output is a folder", spec.span)
    path = Path(spec.path)
    if path.name in ("", ".."):  # of the current folder, and of the one above it
        path = Path(os.path.abspath(path))
    others, left = other_files(folder_of(source)) if folder and source is not None else ([], [])
    if not folder and (spec.copy_files or spec.stem is not None):
        what = "files can be copied along into a folder" if spec.copy_files else "a stem names the files of a folder"
        fail(
            codes.NO_FOLDER, f"{what}, and `{path}` is a file", spec.span, help=f"name a folder, such as `{path.stem}/`"
        )
    _check_stem(spec)
    option = "`--format`" if spec.span is None else "a `format`"
    kind = None if folder and format is None else format_for(path, format, option)
    behind: list[str] = []
    if source is not None and is_set(source):
        behind = [*([] if spec.copy_files else [other.path.name for other in others]), *left]
        behind += _other_weights(source) if folder else []
    size = (spec.shard_size or _SHARD) if folder else None
    copy = tuple(others if spec.copy_files else ())
    return Placed(spec, path, folder, kind, size, copy, tuple(behind), names_read(source))


def _other_weights(source: Path) -> list[str]:
    """Return the files of a folder that are never copied, without those of the checkpoint in it in any format."""
    read = names_read(source)
    family = None if read is None else read.family
    called = ((name, names_of(name)) for name in never_copied(folder_of(source)))
    return [name for name, names in called if names is None or names.family != family]


def _check_stem(spec: OutputSpec) -> None:
    if spec.stem is None or is_stem(spec.stem):
        return
    found = names_of(os.path.basename(spec.stem))
    fail(
        codes.NO_STEM,
        f"files cannot be named after the stem `{spec.stem}`",
        spec.span,
        help=f"a stem has no ending and no number: `{found.whole.removesuffix(found.ending)}`" if found else (),
    )


def checked(placed: Placed, request: Request, *, force: bool, why: str = "", own: Iterable[str] = ()) -> Placed:
    """Return an output that can be written as far as is known; `force` replaces what is there.

    `own` are the names of the files in a folder that the last run wrote, `why` says why these are not known.

    Raises:
        StatexError: SX610 for an existing output without `force`, SX611 for an input, SX612 for one that cannot be
            written.
    """
    if request.policy.make_folders and not os.path.lexists(placed.path.parent):
        return placed
    inputs = [os.fspath(one.path) for _, _, one in request.all_inputs if one.path is not None]
    placed = replace(placed, own=frozenset(own))
    weights = {found.whole for format in OF_SETS if (found := placed.names(format)) is not None}
    taken = placed.own.union(file.path.name for file in placed.copy) | weights
    try:
        check_output(placed.path, force, inputs, folder=placed.folder, taken=taken)
    except StatexError as error:
        raise StatexError([_explained(found, why) for found in error.diagnostics]) from None
    return replace(placed, force=force)


def _explained(found: Diagnostic, why: str) -> Diagnostic:
    if why and found.code is codes.EXISTS:
        found = replace(found, notes=(Note("note", why), *found.notes))
    return found


def check_report(request: Request) -> None:
    """Refuse to put a report where something else is.

    Raises:
        StatexError: SX610 for a file that is not a report, SX612 for what cannot be written.
    """
    report = request.report
    if report is None or not os.path.lexists(report.parent):
        return
    try:
        check_output(report, replaces_report(request))
    except StatexError as error:
        raise StatexError([_of_report(found, report) for found in error.diagnostics]) from None


def replaces_report(request: Request) -> bool:
    """Say whether what is at the place of the report may be replaced by it."""
    assert request.report is not None
    return request.policy.replace == "always" or is_report(request.report)


def _of_report(found: Diagnostic, report: Path) -> Diagnostic:
    if found.code is codes.EXISTS and os.path.isfile(report):
        note = "it is not a report of statex, and would be replaced by one"
        found = replace(found, notes=(Note("note", note), *found.notes))
    return found


def check_apart(outputs: Iterable[Placed], request: Request) -> None:
    """Refuse outputs of which one is, or lies in, another or an input, and inputs that lie in a folder to be replaced.

    Raises:
        StatexError: SX631.
    """
    places = [(_named(one), one.path, one.spec.span, one.folder) for one in outputs]
    if request.report is not None:
        places.append(("the report", request.report, None, False))
    problems = list(_meeting(places))
    for _, _, given in request.all_inputs:
        if given.path is not None:
            problems += _meets_input(places, given.path)
    for kind, path in _made_of(request):
        problems += [
            diagnostic(codes.OUTPUTS_MEET, f"{what} is the {kind} `{path}`", span)
            for what, place, span, _ in places
            if _real(place) == _real(path)
        ]
    if problems:
        raise StatexError(problems)


def _made_of(request: Request) -> Iterator[tuple[str, Path]]:
    """Yield the texts that a recipe is made of."""
    if request.recipe is not None:
        yield "recipe", Path(request.recipe.name)
        yield from (("rule file", Path(part.program.source.name)) for part in request.parts if not part.shared)
        yield from (("file of parameters", path) for path in request.read)


def _named(one: Placed) -> str:
    return f"the output `{one.spec.name}`" if one.spec.name else "the output"


_Place = tuple[str, Path, "Span | None", bool]


def _meeting(places: list[_Place]) -> Iterator[Diagnostic]:
    for number, (what, path, span, _) in enumerate(places):
        for other, there, other_span, _ in places[:number]:
            one, two = _real(path), _real(there)
            if one == two:
                also = [(other_span, "and here")] if other_span is not None else []
                yield diagnostic(codes.OUTPUTS_MEET, f"{what} and {other} are both `{path}`", span, also=also)
            elif _inside(one, two) or _inside(two, one):
                inner, outer = (what, other) if _inside(one, two) else (other, what)
                yield diagnostic(codes.OUTPUTS_MEET, f"{inner} lies inside {outer}", span)


def _meets_input(places: list[_Place], given: Path) -> Iterator[Diagnostic]:
    real = _real(given)
    for what, path, span, folder in places:
        out = _real(path)
        if os.path.isdir(real) and _inside(out, real):
            yield diagnostic(
                codes.OUTPUTS_MEET,
                f"{what} lies inside the input `{given}`",
                span,
                help="write it beside that folder",
            )
        elif folder and not os.path.isdir(real) and _inside(real, out):
            yield diagnostic(
                codes.OUTPUTS_MEET,
                f"the input `{given}` lies inside {what}, which is written as a whole",
                span,
                help="name another folder",
            )
        elif what == "the report" and out == real:
            yield diagnostic(codes.OUTPUTS_MEET, f"the report is the input `{given}`")


def _real(path: Path) -> str:
    # No file has a name with a NUL, which is said when it is opened.
    return os.path.realpath(path) if b"\0" not in os.fsencode(path) else os.fspath(path)


def _inside(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_folder(spec: OutputSpec, source: Path | None, format: Format | None) -> bool:
    """Say whether the output is a folder."""
    name = os.fspath(spec.path)
    if name.endswith(("/", os.sep)) or (format is not None and format.is_folder):
        return True
    wanted = spec.shard_size is not None or is_set(source) or os.path.isdir(name)
    if format_of_name(name) is not None:
        if spec.shard_size is not None:
            fail(
                codes.UNKNOWN_FORMAT,
                f"shards are written into a folder, and `{name}` is named like a file",
                spec.span,
                help=f"name a folder, such as `{Path(name).stem}/`",
            )
        return False
    return wanted
