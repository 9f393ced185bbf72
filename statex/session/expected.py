"""The digests that a recipe expects of its inputs: checks that each is for a file and matches it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from statex.diagnostics import Diagnostic, StatexError, diagnostic
from statex.diagnostics.codes import files as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.session.digests import FilePrint
from statex.session.request import InputSpec


def check_named(given: InputSpec, paths: Sequence[Path]) -> None:
    """Refuse digests that are not one for each of the files that an input is read from; no digest is taken.

    Raises:
        StatexError: SX633.
    """
    problems = list(_misnamed(given, [path.name for path in paths]))
    if problems:
        raise StatexError(problems)


def _misnamed(given: InputSpec, files: Sequence[str]) -> Iterator[Diagnostic]:
    wanted = given.sha256
    if isinstance(wanted, str) and len(files) != 1:
        yield diagnostic(
            codes.WRONG_DIGEST,
            f"`{given.path}` is read from {len(files)} files, and one digest is expected",
            given.sha256_span,
            help="give one for each file: `sha256: {NAME: DIGEST, …}`",
        )
    if wanted is None or isinstance(wanted, str):
        return
    lacking = sorted(set(files) - set(wanted))
    for name in wanted:
        if name not in files:
            near = did_you_mean(name, lacking)
            yield diagnostic(
                codes.WRONG_DIGEST,
                f"`{given.path}` is not read from a file `{name}`",
                given.sha256_span,
                help=f"did you mean `{near[0]}`?" if near else (),
            )
    if lacking:
        yield diagnostic(
            codes.WRONG_DIGEST,
            f"no digest is given for {join_words([f'`{name}`' for name in lacking], limit=3)} of `{given.path}`",
            given.sha256_span,
            notes=["every file that a folder is read from needs one, its index too"],
        )


def wrong(given: InputSpec, paths: Sequence[Path], prints: Mapping[Path, FilePrint]) -> Iterator[Diagnostic]:
    """Yield an error for each file of an input that has another digest than expected; `check_named` has passed it."""
    wanted = given.sha256
    if wanted is None:
        return
    for path in paths:
        digest = (wanted if isinstance(wanted, str) else wanted[path.name]).lower()
        if prints[path].sha256 != digest:
            yield diagnostic(
                codes.WRONG_DIGEST,
                f"`{path.name}` does not have the expected SHA-256",
                given.sha256_span,
                values=[f"expected {digest}", f"found    {prints[path].sha256}"],
            )
