"""Unused names of a program, and captures that are missing from a new key."""

from __future__ import annotations

from collections.abc import Container

from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import lints
from statex.dsl.expressions import questions
from statex.dsl.resolve.definitions import Definition, NameKind
from statex.dsl.resolve.findings import Findings
from statex.dsl.resolve.terms import Terms
from statex.grammar import tree

_CALLED = {
    NameKind.PARAM: "the parameter `{}`",
    NameKind.LET: "`{}`",
    NameKind.MACRO: "the macro `{}`",
    NameKind.ARGUMENT: "the argument `{}` of this macro",
    NameKind.INPUT: "the input `{}`",
}
"""The kinds of names that are reported, with how messages call them."""


def lint_names(findings: Findings, used_outside: Container[str]) -> None:
    """Report the names that are defined and that nothing uses, but for those that begin with `_`.

    Macros of included files, and macros and inputs of files that define names and do nothing, are there for others.
    `used_outside` are names that something beside the rules uses.
    """
    used = set(findings.uses.values())
    for definition in findings.definitions.values():
        is_free = definition.name[0] == "_" or definition in findings.left_open
        if definition in used or is_free or definition.kind not in _CALLED or definition.name in used_outside:
            continue
        if definition.kind is NameKind.INPUT and definition.name in findings.read:
            continue  # another declaration of it is read
        findings.lints.add(_unused(definition))


def _unused(definition: Definition) -> Diagnostic:
    called = _CALLED[definition.kind].format(definition.name)
    verb = "read" if definition.kind is NameKind.INPUT else "used"
    return diagnostic(
        lints.UNUSED_NAME,
        f"{called} is never {verb}",
        definition.span,
        help=f"write `_{definition.name}` if this is meant, or remove it",
    )


def lint_captures(terms: Terms) -> None:
    """Report the captures of a statement with a template that nothing reads: the new key forgets them.

    Where `{key}` is read, all of the key is; in a macro, what is spliced in may read any capture.
    """
    if terms.broken or questions.KEY in terms.read or (terms.names.inside_macro and terms.splices):
        return
    for name, piece in terms.own.items():
        if name not in terms.read and name[0] != "_":
            terms.names.findings.lints.add(
                diagnostic(
                    lints.UNUSED_CAPTURE,
                    f"the capture `{{{name}}}` is never used",
                    piece.span,
                    help=f"write `{_without_name(piece)}` if it is not needed, or put `{{{name}}}` into the new key",
                )
            )


def _without_name(piece: tree.Capture) -> str:
    """Return what matches the same as a capture and binds nothing; a `*` would be one more that counts."""
    return f"{{_{piece.span.text[1 + len(piece.name) :]}"
