"""Values given from outside: checks that each is used, and the scope in which they are known undeclared."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from statex.core.source import Source, Span
from statex.diagnostics import Diagnostic, StatexError, diagnostic
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import names as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.dsl.expressions.parameters import Given, overridden
from statex.dsl.expressions.scope import Scope
from statex.dsl.keys.quoting import show_rules
from statex.dsl.parts import Outside, ProgramPart, addresses, short_names, split_name
from statex.dsl.resolve import Resolved
from statex.dsl.values import UNKNOWN, Value
from statex.grammar import factory as make
from statex.grammar import tree


def check_outside(resolved: Resolved, outside: Outside) -> None:
    """Refuse values that no rule uses; those from a file of parameters may be more than needed.

    Raises:
        StatexError: SX205 with every such name.
    """
    declared = list(dict.fromkeys([name for _, names in resolved.files for name in names]))
    known = [*declared, *outside.params]
    problems = list(_unaddressed(resolved, outside))
    for name, value in outside.given.items():
        if "." not in name and name not in known and not value.lenient:
            problems.append(_unknown(name, value.span, known, "the program"))
    used = {*declared, *resolved.used, *outside.used}
    for name, value in outside.params.items():
        if name not in used:
            problems.append(
                diagnostic(
                    codes.UNKNOWN_PARAM,
                    f"no rule uses the parameter `{name}`",
                    value.span,
                    help=f"remove it, or declare it in a rule file: {show_rules(make.param(name))}",
                )
            )
    problems += _unread(resolved, outside)
    if problems:
        raise StatexError(problems)


def _unread(resolved: Resolved, outside: Outside) -> Iterator[Diagnostic]:
    """Yield diagnostics for inputs that are declared outside, and that no rule reads."""
    declared = {node.name.name for node in resolved.inputs}
    for name in outside.inputs:
        if name not in declared and name not in resolved.read:
            yield diagnostic(
                codes.INPUT_NOT_DECLARED,
                f"no rule reads the input `{name}`",
                outside.places.get(name),
                help=f"remove it, or read it in a rule: {name}::KEY",
            )


def _unaddressed(resolved: Resolved, outside: Outside) -> Iterator[Diagnostic]:
    """Yield diagnostics for values for one file, if there is none, or several, or it declares no such parameter."""
    declared = {stem: names for stem, names in resolved.files if stem}
    short = short_names(declared)
    for full, value in outside.given.items():
        file, name = split_name(full)
        if "." not in full or value.lenient:
            continue
        meant = [stem for stem in declared if addresses(file, stem)]
        if not meant:
            yield _no_file(full, value.span, list(short.values()))
        elif len(meant) > 1:
            yield _several_files(full, value.span, meant, short)
        elif name not in declared[meant[0]]:
            yield _unknown(name, value.span, declared[meant[0]], f"`{meant[0]}.sx`")


def _no_file(full: str, span: Span | None, known: Sequence[str]) -> Diagnostic:
    file, name = split_name(full)
    near = did_you_mean(file, known)
    return diagnostic(
        codes.UNKNOWN_PARAM,
        f"`{full}` is for a rule file `{file}.sx`, and the program has none",
        span,
        notes=[f"its rule files are {join_words([f'`{one}.sx`' for one in known], limit=5)}"] if known else (),
        help=f"did you mean `{near[0]}.{name}`?" if near else (),
    )


def _several_files(full: str, span: Span | None, meant: Sequence[str], short: Mapping[str, str]) -> Diagnostic:
    name = split_name(full)[1]
    return diagnostic(
        codes.UNKNOWN_PARAM,
        f"`{full}` could be for {counted(len(meant), 'rule file')}: "
        f"{join_words([f'`{stem}.sx`' for stem in meant], limit=5)}",
        span,
        help=[f"for one of them: {'   or '.join(f'{short[stem]}.{name}' for stem in meant[:3])}",
              f"for every file that declares it: {name}"],
    )  # fmt: skip


def check_with(part: ProgramPart) -> None:
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
    declared = list(dict.fromkeys(declared))
    near = did_you_mean(name, declared)
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
    """Return the scope of all rules that are not files: it knows the parameters that are declared outside.

    Raises:
        StatexError: SX201 for a name that means something already, SX206 for a value of another type than the one it
            takes the place of, SX217 for numbers of more than 64 bits.
    """
    scope = Scope(folder=folder)
    define_outside(scope, outside)
    return scope


def define_outside(scope: Scope, outside: Outside) -> None:
    """Let a scope know the parameters that are declared outside; one whose value is an error is of unknown value.

    Raises:
        StatexError: those of `shared_scope`, all at once, after every parameter has been defined.
    """
    problems: list[Diagnostic] = []
    for name, value in outside.params.items():
        span = value.span or Span(Source("<parameters>", name), 0, len(name))
        found: Value = UNKNOWN
        try:
            found = overridden(name, value, outside.given.get(name))
        except StatexError as error:
            problems += error.diagnostics
        try:
            scope.define(tree.Name(span, name), found)
        except StatexError as error:
            problems += error.diagnostics
    if problems:
        raise StatexError(problems)
