"""Values that are given from outside: that each is for something, and the scope that knows them undeclared."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from statex.diagnostics import Diagnostic, StatexError, diagnostic
from statex.diagnostics.codes import names as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.dsl.check import Checked
from statex.dsl.parameters import Given, overridden
from statex.dsl.parts import Outside, Part
from statex.dsl.scope import Scope
from statex.grammar import tree
from statex.source import Source, Span


def check_outside(checked: Checked, outside: Outside) -> None:
    """Refuse values that no rule uses; those from a file of parameters may be more than needed.

    Raises:
        StatexError: SX205 with every such name.
    """
    declared = list(dict.fromkeys([name for _, names in checked.files for name in names]))
    known = [*declared, *outside.params]
    problems = list(_unaddressed(checked, outside))
    for name, value in outside.given.items():
        if "." not in name and name not in known and not value.lenient:
            problems.append(_unknown(name, value.span, known, "the program"))
    used = {*declared, *checked.used, *outside.used}
    for name, value in outside.params.items():
        if name not in used:
            problems.append(
                diagnostic(
                    codes.UNKNOWN_PARAM,
                    f"no rule uses the parameter `{name}`",
                    value.span,
                    help=f"remove it, or declare it in a rule file: param {name}",
                )
            )
    problems += _unread(checked, outside)
    if problems:
        raise StatexError(problems)


def _unread(checked: Checked, outside: Outside) -> Iterator[Diagnostic]:
    """Yield diagnostics for inputs that are declared outside, and that no rule reads."""
    declared = {node.name.name for node in checked.inputs}
    for name in outside.inputs:
        if name not in declared and name not in checked.read:
            yield diagnostic(
                codes.INPUT_NOT_DECLARED,
                f"no rule reads the input `{name}`",
                outside.places.get(name),
                help=f"remove it, or read it in a rule: {name}::KEY",
            )


def _unaddressed(checked: Checked, outside: Outside) -> Iterator[Diagnostic]:
    """Yield diagnostics for values that are given to one file, where it is not there or declares no such parameter."""
    stems = [stem for stem, _ in checked.files if stem]
    for full, value in outside.given.items():
        stem, dot, name = full.rpartition(".")
        if not dot or value.lenient:
            continue
        names = [n for other, names in checked.files if other == stem for n in names]
        if stem in stems and name not in names:
            yield _unknown(name, value.span, names, f"`{stem}.sx`")
        elif stem not in stems:
            near = did_you_mean(stem, stems)
            yield diagnostic(
                codes.UNKNOWN_PARAM,
                f"`{full}` is for a rule file `{stem}.sx`, and the program has none",
                value.span,
                notes=[f"its rule files are {join_words([f'`{s}.sx`' for s in stems], limit=5)}"] if stems else (),
                help=f"did you mean `{near[0]}.{name}`?" if near else (),
            )


def check_with(part: Part) -> None:
    """Refuse values that a rule file is given and does not declare.

    Raises:
        StatexError: SX205 with every such name.
    """
    check_names(part.program.statements, part.given, None)


def check_names(statements: Sequence[tree.Statement], given: Mapping[str, Given], span: Span | None) -> None:
    """Refuse values for parameters that statements do not declare; `span` is where they are given.

    Raises:
        StatexError: SX205 with every such name.
    """
    declared = [p.name.name for p in params(statements)]
    problems = [_unknown(n, v.span or span, declared, "the program") for n, v in given.items() if n not in declared]
    if problems:
        raise StatexError(problems)


def _unknown(name: str, span: Span | None, declared: Collection[str], who: str) -> Diagnostic:
    near = did_you_mean(name, list(declared))
    known = f"{who} declares {', '.join(f'`{d}`' for d in declared)}" if declared else f"{who} declares none"
    return diagnostic(
        codes.UNKNOWN_PARAM,
        f"there is no parameter `{name}`",
        span,
        help=f"did you mean `{near[0]}`?" if near else (),
        notes=[known],
    )


def params(statements: Sequence[tree.Statement]) -> list[tree.Param]:
    """Return the parameters that statements declare, those in conditions included."""
    found = []
    for statement in statements:
        if isinstance(statement, tree.Param):
            found.append(statement)
        elif isinstance(statement, tree.If):
            found += params(statement.then) + params(statement.otherwise)
    return found


def shared_scope(outside: Outside, folder: str) -> Scope:
    """Return the scope of all rules that are no files: it knows the parameters that are declared outside.

    Raises:
        StatexError: SX201 for a name that means something already, SX206 for a value of another type than the one it
            takes the place of, SX217 for numbers of more than 64 bits.
    """
    scope = Scope(folder=folder)
    problems: list[Diagnostic] = []
    for name, value in outside.params.items():
        span = value.span or Span(Source("<parameters>", name), 0, len(name))
        try:
            scope.define(tree.Name(span, name), overridden(name, value, outside.given.get(name)))
        except StatexError as error:
            problems += error.diagnostics
    if problems:
        raise StatexError(problems)
    return scope
