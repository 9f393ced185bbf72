"""From the parts of a program and headers to a plan."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from statex.core.header import Header, KeyPath, Nested, OpaqueInfo
from statex.core.source import Span
from statex.diagnostics import StatexError, diagnostic
from statex.diagnostics.codes import lints
from statex.diagnostics.codes import names as name_codes
from statex.diagnostics.folding import folded
from statex.diagnostics.suggest import join_words
from statex.dsl.compile.compiler import Compiler
from statex.dsl.compile.embedded import spliced, step_in_whole
from statex.dsl.compile.given import check_outside, check_with, define_outside
from statex.dsl.compile.nested import Nesting
from statex.dsl.compile.nested_result import nested_result
from statex.dsl.compile.state import initial_state
from statex.dsl.expressions.scope import Scope
from statex.dsl.keys.quoting import is_plain, show_rules
from statex.dsl.parts import Outside, ProgramPart, short_names
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.ledger import unread
from statex.dsl.plan.metadata import Metadata, exchanged, follow
from statex.dsl.plan.plan import Plan
from statex.dsl.resolve import Resolved
from statex.dsl.statements import runner
from statex.grammar import factory as make
from statex.grammar import tree


def compile_plan(
    resolved: Resolved,
    header: Header,
    *,
    inputs: Mapping[str, Sequence[Header]],
    target: Header | None,
    outside: Outside,
    root: str | None = None,
    at: str = "",
    put_at: KeyPath | None = None,
    brief: bool = False,
) -> Plan:
    """Run a program over headers, one part after the other, and return the plan; no data is read.

    `root` is the path of the state as rules write it, if the result is nested as the state is; else it is flat.
    A program is for the whole state, or for the module `at` a path in it: then it sees the keys of this one without the
    path, and all others stay as they are. `put_at` is where the state will be, if that is elsewhere: `()` is alone.

    Raises:
        StatexError: all errors of the program, or all on this checkpoint, at once; the first one alone, and without
            looking for what was probably meant, if they shall be `brief`.
    """
    if resolved.diagnostics:
        raise StatexError(resolved.diagnostics)
    parts = resolved.parts
    compiler = Compiler(header, inputs, target, resolved, runner, outside, at, put_at, brief=brief)
    compiler.nesting = Nesting(header) if header.containers and root is not None else None
    with compiler.reporting():
        check_outside(resolved, outside)
    scope = Scope(folder=next((part.folder for part in parts if part.shared), "."))
    with compiler.reporting():
        define_outside(scope, outside)
    scopes = [(part, scope if part.shared else Scope(folder=part.folder)) for part in parts]
    for part, own in scopes:
        with compiler.reporting():
            check_with(part)
        compiler.run_with(part.program.statements, own, outside.values_for(part.stem, part.given))
    _check_inputs(compiler)
    compiler.found.raise_errors()
    results = [(key, compiler.state.entries[key]) for key in compiler.state.in_order()]
    metadata = _metadata(compiler, results)
    if at:
        results = list(spliced(initial_state(header).entries, compiler.prefix, results))
    nested = _nested(compiler, dict(results), root)
    compiler.found.raise_errors()
    _lint_ties(compiler, dict(results))
    plan = replace(_plan(compiler, results, metadata, _parameters(scope, scopes)), nested=nested, put_at=put_at)
    declared = {node.name.name: node.name.span for node in reversed(resolved.inputs)}
    for name, keys in unread(plan).items():
        _lint_unread(compiler, name, keys, declared.get(name))
    return replace(plan, warnings=compiler.found.warnings)


def _parameters(shared: Scope, scopes: Sequence[tuple[ProgramPart, Scope]]) -> dict[str, object]:
    """Return the values of the program's names; one that has another value in a later file is `file.name` there."""
    found: dict[str, object] = {**shared.names()}
    short = short_names(part.stem for part, _ in scopes)
    for part, scope in scopes:
        for name, value in scope.names().items() if not part.shared else ():
            other = name in found and found[name] != value
            found[f"{short.get(part.stem, part.stem)}.{name}" if other else name] = value
    return found


def _check_inputs(compiler: Compiler) -> None:
    for name in compiler.given_inputs:
        if name not in compiler.inputs:
            compiler.found.add(
                diagnostic(
                    name_codes.INPUT_NOT_DECLARED,
                    f"a checkpoint was given for `{name}`, and the program declares no such input",
                    help=show_rules(make.input_(name)),
                )
            )


def _plan(
    compiler: Compiler,
    entries: Sequence[tuple[str, Entry]],
    metadata: Metadata | None,
    parameters: Mapping[str, object],
) -> Plan:
    steps, prefix = compiler.steps, compiler.prefix
    if prefix:
        steps = [step_in_whole(one, prefix) for one in steps]
    return Plan(
        outputs=OrderedDict(entries),
        graph=compiler.graph,
        header=compiler.whole,
        inputs={name: source.headers for name, source in compiler.inputs.items()},
        metadata=metadata,
        steps=tuple(steps),
        allowed=tuple(replace(one, prefix=prefix) for one in compiler.allowed),
        warnings=(),
        parameters=parameters,
        same=tuple(compiler.same),
        edits=tuple(compiler.around.edits),
        metadata_texts=compiler.around.metadata_texts,
    )


def _nested(compiler: Compiler, entries: Mapping[str, Entry], root: str | None) -> Nested:
    if compiler.nesting is None or root is None:
        return Nested()
    return nested_result(compiler.nesting, entries, compiler.steps, root, compiler.found)


def _metadata(compiler: Compiler, entries: Sequence[tuple[str, Entry]]) -> Metadata | None:
    """Return the `_metadata` of the whole result, of which these entries are what the program sees."""
    own, whole, prefix = compiler.header, compiler.whole.metadata, compiler.prefix
    if own.metadata is None or whole is None:
        return None
    module_sources = [
        (key, entry.module_source[len(prefix) :]) for key, entry in entries if entry.module_source is not None
    ]
    followed = follow(own.metadata, own.entries, module_sources)
    return exchanged(whole, prefix, followed) if prefix else followed


def _lint_ties(compiler: Compiler, entries: Mapping[str, Entry]) -> None:
    """Say where keys that shared a tensor in the input hold different ones in the result."""
    header = compiler.whole
    infos = [info for info in header.entries.values() if not isinstance(info, OpaqueInfo)]
    storages = [info.storage for info in infos if info.storage is not None]
    if len(set(storages)) == len(storages):
        return
    together: dict[object, list[str]] = {}
    for key, info in header.entries.items():
        if not isinstance(info, OpaqueInfo) and info.identity is not None:
            together.setdefault(info.identity, []).append(key)
    tied = {memory: keys for memory, keys in together.items() if len(keys) > 1}
    if not tied:
        return
    memories: dict[str | None, object] = {key: memory for memory, keys in tied.items() for key in keys}
    results: dict[object, dict[object, str]] = {memory: {} for memory in tied}
    for key, entry in entries.items():
        if entry.module_source in memories:
            results[memories[entry.module_source]].setdefault(entry.tie, key)
    for memory, keys in tied.items():
        ties = results[memory]
        if len(ties) > 1:
            first, second, *_ = ties.values()
            step = max(entries[first].step, entries[second].step)
            apart = " and" if {first, second} == set(keys) else f", and `{first}` and `{second}`"
            compiler.found.add(
                diagnostic(
                    lints.TIE_ENDS,
                    f"{join_words([f'`{k}`' for k in keys], limit=3)} shared one tensor{apart} no longer do",
                    compiler.steps[step].span if step >= 0 else None,
                    help="change both in one statement, or drop one",
                )
            )


def _lint_unread(compiler: Compiler, name: str, keys: Sequence[str], declared: Span | None) -> None:
    """Say which tensors of a further input no statement has read; those that differ in numbers alone are one."""
    count = len(compiler.inputs[name].index)
    if keys:
        shown = [f"`{one.key}`" for one in folded(keys, lambda key: key, lambda key: None)]
        compiler.found.add(
            diagnostic(
                lints.INPUT_UNREAD,
                f"nothing reads {len(keys)} of the {count} tensors of `{name}`: {join_words(shown, limit=3)}",
                declared,
                help=f"if this is meant: {show_rules(make.drop(*_meant(name, keys, every=len(keys) == count)))}",
            )
        )


def _meant(name: str, keys: Sequence[str], every: bool) -> list[tree.PatternNode]:
    """Return patterns over an input that match what is unread; all of them, where that is short."""
    patterns = list(dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "*", key) for key in keys))
    if every or len(patterns) > _PATTERNS or not all(is_plain(one.replace("*", "_")) for one in patterns):
        patterns = ["**"]
    return [make.glob(one, name) for one in patterns]


_PATTERNS = 4
