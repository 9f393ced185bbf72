"""Statements about the program itself: names, inputs, includes, macros, blocks, and `allow`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from statex.diagnostics import Diagnostic, StatexError, diagnostic, fail
from statex.diagnostics.codes import names as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.dsl.compile.compiler import Compiler
from statex.dsl.compile.given import check_names
from statex.dsl.compile.inputs import InputState
from statex.dsl.compile.match import main_only
from statex.dsl.expressions.evaluate import Context, Evaluator
from statex.dsl.expressions.parameters import Given, check_default, checked, from_documents, known_type, paths_in
from statex.dsl.expressions.scope import TARGET, DefinedValue, MacroDefinition, Scope, taken_by_language
from statex.dsl.keys.patterns import below, spliced
from statex.dsl.keys.quoting import show_rules
from statex.dsl.parts import stem_of
from statex.dsl.plan.plan import Allowed
from statex.dsl.values import UNKNOWN, PatternValue, Value, is_unknown
from statex.grammar import factory as make
from statex.grammar import tree

Run = Callable[[Compiler, Sequence[tree.Statement], Scope], None]
"""Carries out statements; handed in by the table of all statements."""


def param(compiler: Compiler, node: tree.Param, scope: Scope, given: dict[str, Given]) -> None:
    """Give a parameter its value: the one given from outside, or else its default."""
    with _unknown_on_error(node.name, scope):
        scope.define(node.name, _param_value(compiler, node, scope, given))


def _param_value(compiler: Compiler, node: tree.Param, scope: Scope, given: dict[str, Given]) -> Value:
    name = node.name.name
    type_name = known_type(node.type) if node.type is not None else None
    default: Value = None
    if node.default is not None:
        default = Evaluator(compiler, scope, Context()).plain(node.default, "a default")
    outside = given.get(name)
    if node.path is not None and (outside is None or outside.lenient):
        # Where a file has it is said here, so that a value of the same name elsewhere in the file is another one.
        outside = from_documents(node, compiler.outside.documents)
    if outside is not None:
        return checked(node, type_name, outside, default)
    if node.default is not None:
        return check_default(node, type_name, default)
    fail(
        codes.MISSING_PARAM,
        f"the parameter `{name}` has no value",
        node.span,
        notes=_not_in_files(node, compiler.outside.documents),
        help=f"{_given_by(name, scope, compiler.outside.is_recipe)}   or a default: `{node.span.text.rstrip()} = …`",
    )


def _not_in_files(node: tree.Param, documents: Mapping[str, Mapping[str, object]]) -> list[str]:
    if node.path is None:
        return []
    if not documents:
        return [f"it is read from a file of parameters: --params FILE, such as a config.json with {node.path.value}"]
    near = did_you_mean(node.path.value, [path for content in documents.values() for path in paths_in(content)])
    hint = f"; did you mean `{near[0]}`?" if near else ""
    has = "has" if len(documents) == 1 else "have"
    return [f"{join_words([f'`{one}`' for one in documents], limit=4)} {has} no `{node.path.value}`{hint}"]


def _given_by(name: str, scope: Scope, in_recipe: bool) -> str:
    """Return how a parameter is given: by `with` in an included file."""
    if not scope.used_at:
        return f"params: {{{name}: …}} in the recipe   or -D {name}=…" if in_recipe else f"-D {name}=…"
    path = scope.used_at[-1].text.partition(" with ")[0].strip()
    return f"{path} with {name} = …"


@contextmanager
def _unknown_on_error(name: tree.Name, scope: Scope) -> Iterator[None]:
    """Give a name an unknown value where the one it should have cannot be told, so that only this is reported."""
    try:
        yield
    except StatexError:
        if scope.find(name.name) is None and taken_by_language(name.name) is None:
            scope.define(name, UNKNOWN)
        raise


def let(compiler: Compiler, node: tree.Let, scope: Scope) -> None:
    """Give a name a value that is known from parameters and the header."""
    with _unknown_on_error(node.name, scope):
        scope.define(node.name, Evaluator(compiler, scope, Context()).plain(node.value, "`let`"))


def input_(compiler: Compiler, node: tree.Input, scope: Scope) -> None:
    """Declare a further checkpoint."""
    name = node.name.name
    earlier = compiler.inputs.get(name)
    if earlier is not None and earlier.family == node.family and not _declared_beside(earlier, node):
        # An included file names the inputs it reads; it is the same input.
        return
    if name == TARGET or earlier is not None:
        what = "the target's name" if name == TARGET else "declared already"
        fail(codes.NAME_CLASH, f"an input cannot be called `{name}`: that is {what}", node.name.span)
    headers = compiler.given_inputs.get(name, ())
    if not headers or (len(headers) > 1 and not node.family):
        compiler.found.add(_input_count(name, len(headers), node, compiler.outside.is_recipe))
        headers = headers[:1]
    compiler.inputs[name] = InputState(name, headers, node.family, node.span)


def _declared_beside(earlier: InputState, node: tree.Input) -> bool:
    """Say whether one text declares an input twice; a file that is included again does not."""
    place = earlier.place
    return place is not None and place.source is node.span.source and place != node.span


def _input_count(name: str, count: int, node: tree.Input, in_recipe: bool) -> Diagnostic:
    if count:
        return diagnostic(
            codes.INPUT_NOT_GIVEN,
            f"the input `{name}` takes one checkpoint, and {count} were given",
            node.span,
            help=f"write `{show_rules(make.input_(name, family=True))}`, which takes several",
        )
    return diagnostic(
        codes.INPUT_NOT_GIVEN,
        f"no checkpoint was given for the input `{name}`",
        node.span,
        help=f"inputs: {{main: …, {name}: PATH}}" if in_recipe else f"--in {name}=PATH",
    )


def include(compiler: Compiler, node: tree.Include, scope: Scope, run: Run) -> None:
    """Carry out another rule file, a scope of its own; its macros are known afterwards."""
    program = compiler.included(scope.folder, node.path.value)
    source = program.source
    given = {
        b.name.name: Given(Evaluator(compiler, scope, Context()).plain(b.value, "`with`"), b.span, typed=True)
        for b in node.bindings
    }
    inner = Scope(None, scope.prefix, _folder(source.name), (*scope.used_at, node.span))
    check_names(program.statements, given, node.span)
    compiler.run_with(program.statements, inner, compiler.outside.values_for(stem_of(source.name), given))
    scope.macros.update(inner.macros)


def _folder(name: str) -> str:
    return name.rpartition("/")[0] or "."


def macro(compiler: Compiler, node: tree.Macro, scope: Scope) -> None:
    """Define a macro; it sees what is defined before it."""
    known = scope.find_macro(node.name.name)
    if known is not None:
        fail(
            codes.NAME_CLASH,
            f"the macro `{node.name.name}` is defined twice",
            node.name.span,
            also=[(known.node.name.span, "first here")],
        )
    seen = scope.child()
    # The macros known now, and no later one: a macro that could see itself would make endless programs.
    seen.macros = {name: m for s in reversed(list(scope.chain())) for name, m in s.macros.items()}
    seen.parent = _values_only(scope)
    scope.macros[node.name.name] = MacroDefinition(node, seen)


def _values_only(scope: Scope) -> Scope:
    return Scope(None, scope.prefix, scope.folder, scope.used_at, _definitions(scope))


def _definitions(scope: Scope) -> dict[str, DefinedValue]:
    found: dict[str, DefinedValue] = {}
    for one in scope.chain():
        for name, definition in one.values.items():
            found.setdefault(name, definition)
    return found


def use(compiler: Compiler, node: tree.Use, scope: Scope, run: Run) -> None:
    """Carry out the body of a macro with its arguments."""
    found = scope.find_macro(node.name.name)
    if found is None:
        near = did_you_mean(node.name.name, scope.macro_names())
        fail(
            codes.UNKNOWN_MACRO,
            f"there is no macro `{node.name.name}` before this place",
            node.name.span,
            help=f"did you mean `{near[0]}`?" if near else (),
        )
    inner = replace(found.scope.child(prefix=scope.prefix), used_at=(*scope.used_at, node.span))
    for name, value in _arguments(compiler, node, found.node, scope).items():
        inner.define(name, value)
    run(compiler, found.node.body, inner)


def _arguments(compiler: Compiler, node: tree.Use, macro: tree.Macro, scope: Scope) -> dict[tree.Name, Value]:
    names = {p.name: p for p in macro.parameters}
    values: dict[tree.Name, Value] = {}
    positional = [a for a in node.arguments if a.name is None]
    pairs = [(p, a) for p, a in zip(macro.parameters, positional, strict=False)]
    pairs += [(names[a.name], a) for a in node.arguments if a.name in names]
    for name, argument in pairs:
        values[name] = _argument(compiler, argument, scope)
    unknown = [a for a in node.arguments if a.name is not None and a.name not in names]
    missing = [p.name for p in macro.parameters if p not in values]
    if unknown or missing or len(pairs) != len(values) or len(positional) > len(names):
        what = ", ".join(names) or "no arguments"
        fail(
            codes.MACRO_ARGUMENTS,
            f"`{macro.name.name}` takes {what}" + (f"; `{missing[0]}` is missing" if missing else ""),
            node.span,
            also=[(macro.name.span, "defined here")],
        )
    return values


def _argument(compiler: Compiler, argument: tree.Argument, scope: Scope) -> Value:
    value = Evaluator(compiler, scope, Context()).value(argument.value)
    if isinstance(value, PatternValue):
        # What it splices is looked up here: in the macro the same name may stand for this very pattern.
        return PatternValue(replace(value.node, pieces=tuple(spliced(value.node.pieces, scope.splice))))
    return value if is_unknown(value) else _plain(compiler, argument, scope)


def _plain(compiler: Compiler, argument: tree.Argument, scope: Scope) -> Value:
    return Evaluator(compiler, scope, Context()).plain(argument.value, "an argument of a macro")


def within(compiler: Compiler, node: tree.Within, scope: Scope, run: Run) -> None:
    """Carry out statements that see only what is below a pattern, without the prefix."""
    main_only(node.pattern)
    prefix = below(scope.prefix, node.pattern) if scope.prefix is not None else node.pattern
    run(compiler, node.body, scope.child(prefix=prefix))


def if_(compiler: Compiler, node: tree.If, scope: Scope, run: Run) -> None:
    """Carry out one of two blocks; names they define are known afterwards."""
    holds = Evaluator(compiler, scope, Context()).condition(node.condition, "`if`")
    run(compiler, node.then if holds else node.otherwise, scope)


def allow(compiler: Compiler, node: tree.Allow, scope: Scope) -> None:
    """Note what strict verification forgives."""
    for pattern in node.patterns:
        main_only(pattern)
        compiler.allowed.append(Allowed(node.kind, compiler.pattern(pattern, scope)))
